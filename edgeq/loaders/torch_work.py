"""What runs in the environment with PyTorch: a model to .tflite or .onnx, and its own answers."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.loaders import torch_sources
from edgeq.loaders.torch_sources import Given, Loaded
from edgeq.ports import OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """``path``: of the float .tflite or .onnx to write."""

    given: Given
    target: Format
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """``inputs`` and ``outputs``: names in the model's order. ``tools``: names and versions."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tools: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """``folder``: holds ``0.npz`` and so on, each an array ``input_0`` … of one batch."""

    given: Given
    folder: Path
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """``count``: batches answered, in ``0.out.npz`` …; ``error``: why the next one was not."""

    count: int
    error: str


def write(request: WriteRequest, on_progress: OnProgress) -> Written:
    """Write the float pivot.

    Raises:
        ModelError: PyTorch cannot load the model, or cannot convert it.
    """
    import torch

    loaded = torch_sources.load(request.given)
    outputs = tuple(
        f"output_{i}" for i in range(len(torch_sources.run(request.given, loaded, loaded.example)))
    )
    on_progress("convert", 0, 0)
    tools = {"torch": torch.__version__}
    try:
        if request.target == "onnx":
            tools |= _write_onnx(request, loaded, outputs)
        else:
            tools |= _write_tflite(request, loaded)
    except torch_sources.errors() as error:
        raise ModelError(
            f"PyTorch cannot convert {request.given.source.path.name} to .{request.target}: "
            f"{torch_sources.reason(error)}",
            hint="--format onnx takes more operators" if request.target == "tflite" else "",
        ) from error
    return Written(inputs=loaded.names, outputs=outputs, tools=tools)


def answer(request: AnswerRequest, on_progress: OnProgress) -> Answered:
    """The model's own outputs, as ``output_0`` … of one file a batch."""
    import torch

    loaded = torch_sources.load(request.given)
    for place in range(request.count):
        on_progress("compare", place, request.count)
        with np.load(request.folder / f"{place}.npz") as arrays:
            batch = tuple(
                torch.from_numpy(arrays[f"input_{i}"]) for i in range(len(loaded.example))
            )
        try:
            outputs = torch_sources.run(request.given, loaded, batch)
        except ModelError as error:
            return Answered(count=place, error=error.message)
        named = {f"output_{i}": value.numpy() for i, value in enumerate(outputs)}
        np.savez(request.folder / f"{place}.out.npz", **named)
    return Answered(count=request.count, error="")


def _write_onnx(request: WriteRequest, loaded: Loaded, outputs: tuple[str, ...]) -> dict[str, str]:
    import torch

    names = {"input_names": list(loaded.names), "output_names": list(outputs)}
    if request.given.source.kind == "torchscript":
        torch.onnx.export(
            loaded.call.inner, loaded.example, str(request.path), dynamo=False, **names
        )
        return {"onnx": version("onnx")}
    program = torch.export.export(loaded.call, loaded.example)
    made: Any = torch.onnx.export(
        program, (), dynamo=True, external_data=False, verbose=False, **names
    )
    made.save(str(request.path), external_data=False)
    return {"onnx": version("onnx"), "onnxscript": version("onnxscript")}


def _write_tflite(request: WriteRequest, loaded: Loaded) -> dict[str, str]:
    import litert_torch

    module = loaded.call
    if request.given.source.kind == "torchscript":
        from torch._export.converter import TS2EPConverter

        module = TS2EPConverter(loaded.call.inner, loaded.example, {}).convert().module()
    litert_torch.convert(module, loaded.example).export(str(request.path))
    return {"litert-torch": version("litert-torch")}
