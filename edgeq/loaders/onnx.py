"""ONNX files: pinned, simplified and brought to an opset that can be quantized."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeq.core.model import FloatModel, Source
from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.formats import onnx as files
from edgeq.formats import onnx_graph, onnx_walk
from edgeq.formats.onnx import Model
from edgeq.loaders import onnx_to_tflite, pivot, shapes
from edgeq.ports import Array, Batch, LoadOptions, TensorSpecs

_SUFFIX = ".onnx"
_MOST_NUMBERS = 1 << 27
_LFS = b"version https://git-lfs"
_TAGS = frozenset({0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72})  # fields of ModelProto
_QUANTIZED_OPS = re.compile(
    r"QuantizeLinear$|^QLinear|^Q(Gemm|Attention|EmbedLayer|OrderedM)|Integer$|Integer(ToFloat)?$"
    r"|^MatMul(NBits|BnB4|FpQ4)|^DynamicQuantize|^FakeQuant|^GatherBlockQuantized"
)


def make() -> "OnnxLoader":
    return OnnxLoader()


class OnnxLoader:
    def recognise(self, path: Path) -> str | None:
        if path.suffix.lower() != _SUFFIX or not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(len(_LFS))
        if head == _LFS:
            raise ModelError(
                f"{path} is a pointer of Git LFS, not the model itself",
                hint="git lfs pull, or download it again",
            )
        if head[0] not in _TAGS:
            raise ModelError(
                f"{path} is called {path.suffix}, but its contents are not",
                hint="was the download or the copy cut short?",
            )
        return "onnx"

    def environments(self, kind: str, target: Format) -> tuple[str, ...]:
        del kind
        return (onnx_to_tflite.ENVIRONMENT,) if target == "tflite" else ()

    def load(
        self,
        source: Source,
        folder: Path,
        options: LoadOptions,
        probe: Callable[[TensorSpecs], Sequence[Batch]],
    ) -> FloatModel:
        model = runnable(files.read(source.path), source.path.name)
        refuse(model, source.path.name)
        answer = files.answering(model, source.path.name)
        path = pivot.path_in(folder, "onnx")
        write_pivot(model, source.path.name, options, path)
        tools = {name: version(name) for name in ("onnx", "onnxruntime")}
        if options.target == "onnx":
            return pivot.finish(source, path, answer, probe, tools)
        return _as_tflite(source, path, options, answer, probe, tools)


def _as_tflite(
    source: Source,
    pinned: Path,
    options: LoadOptions,
    answer: pivot.Answer,
    probe: Callable[[TensorSpecs], Sequence[Batch]],
    tools: dict[str, str],
) -> FloatModel:
    path = pivot.path_in(pinned.parent, "tflite")
    kinds = {spec.name: spec.dtype for spec in files.Runner(pinned).tensors.inputs}
    typed = _taking(kinds, answer)
    made = pivot.first_right(
        onnx_to_tflite.ways(pinned, source.path.name, options, path),
        lambda: pivot.finish(source, path, typed, probe, tools | onnx_to_tflite.tools()),
    )
    pinned.unlink()
    return made


def _taking(kinds: Mapping[str, str], answer: pivot.Answer) -> pivot.Answer:
    """``answer`` for inputs of other types: a .tflite has int32 where its source has int64."""

    def typed(given: Mapping[str, Array]) -> Mapping[str, Array]:
        return answer({name: array.astype(kinds[name]) for name, array in given.items()})

    return typed


def runnable(model: Model, name: str) -> Model:
    """The model as this machine's ONNX Runtime takes it: the newest opsets have another number.

    Raises:
        ModelError: it needs operators that are too new.
    """
    newest = onnx_graph.runtime_opset()
    if files.opset(model) > newest:
        model = onnx_graph.at_opset(model, newest, name)
    model.ir_version = min(model.ir_version, onnx_graph.ir_for(newest))
    return model


def refuse(model: Model, name: str) -> None:
    """Stop at a model that no float pivot can be made of.

    Raises:
        ModelError: it computes nothing, or is quantized or of other floats than float32.
    """
    if not model.graph.node:
        raise ModelError(
            f"{name} is an empty model: it computes nothing",
            hint="was it saved before its layers were added?",
        )
    for edges in (model.graph.input, model.graph.output):
        listed = [item.name for item in edges]
        if twice := next((one for one in listed if listed.count(one) > 1), None):
            raise ModelError(f"{name} has two inputs or outputs called {twice}")
    if quantized := sorted(
        {node.op_type for node in onnx_walk.nodes(model) if _QUANTIZED_OPS.search(node.op_type)}
    ):
        raise ModelError(
            f"{name} is already quantized (it has {quantized[0]}): edgeq starts from a float model",
            hint="give the float model that it was made from",
        )
    if kind := _other_floats(model):
        raise ModelError(
            f"{name} computes in {kind}: edgeq starts from float32",
            hint="export it in float32; --precision fp16 makes float16 of it again",
        )


def write_pivot(model: Model, name: str, options: LoadOptions, path: Path) -> None:
    """Write what a float model computes as a pivot: batch 1, nothing open, constants folded.

    Raises:
        ModelError: it cannot be.
    """
    sides = _shapes(model, name, options)
    made = onnx_graph.upgraded(model, name)
    onnx_graph.pin(made, sides)
    made = onnx_graph.simplified(made, name)
    onnx_graph.close_outputs(made, name)
    files.write(made, path)


def _other_floats(model: Model) -> str | None:
    """The float type that is not float32, of its inputs, outputs or weights."""
    from onnx import TensorProto

    names = {
        TensorProto.FLOAT16: "float16",
        TensorProto.BFLOAT16: "bfloat16",
        TensorProto.DOUBLE: "float64",
    }
    edges = (*model.graph.input, *model.graph.output)
    found = [item.type.tensor_type.elem_type for item in edges]
    # a float64 number beside the weights is common, and harmless
    found += [item.data_type for item in model.graph.initializer if len(item.dims) > 1]
    return next((names[kind] for kind in found if kind in names), None)


def _shapes(model: Model, name: str, options: LoadOptions) -> Mapping[str, tuple[int, ...]]:
    """The fixed shape of each input.

    Raises:
        ModelError: an axis stays open, or the batch is fixed and not 1.
    """
    constants = {item.name for item in model.graph.initializer}  # old exporters list them
    inputs = [item for item in model.graph.input if item.name not in constants]
    if not inputs:
        raise ModelError(f"{name} has no inputs: it always gives the same answer")
    return {item.name: _shape(item, name, options) for item in inputs}


def _shape(item: Any, name: str, options: LoadOptions) -> tuple[int, ...]:  # noqa: ANN401
    kind = item.type
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        raise ModelError(
            f"input {item.name} of {name} says not what shape it has",
            hint="export it again with the shape of its inputs",
        )
    sides = [side.dim_value if side.dim_value > 0 else None for side in kind.tensor_type.shape.dim]
    if len(sides) > 1 and sides[0] not in (None, 1):
        raise ModelError(
            f"input {item.name} of {name} takes a batch of {sides[0]}",
            hint="export it again with a batch of 1, or an open one",
        )
    closed = shapes.pin(item.name, sides, options)
    if math.prod(closed) > _MOST_NUMBERS:
        raise ModelError(
            f"input {item.name} of {name} has the shape {closed}: edgeq feeds up to "
            f"{_MOST_NUMBERS} numbers at once"
        )
    return closed
