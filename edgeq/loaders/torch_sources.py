"""PyTorch's files loaded, in its own environment: a call of flat tensors, whatever the kind."""

import os
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeq.core.model import Source
from edgeq.errors import ModelError
from edgeq.loaders import shapes
from edgeq.ports import LoadOptions

_REASON_CHARACTERS = 300
_FEATURES = "features"
_FIXED = "export it with its other arguments fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A model file, and what is known of its inputs from elsewhere."""

    source: Source
    options: LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that can be called.

    Attributes:
        call: A module: flat tensors in, flat tensors out.
        names: Of the inputs, in order.
        example: Zeros, as the inputs are.
    """

    call: Any
    names: tuple[str, ...]
    example: tuple[Any, ...]


def load(given: Given) -> Loaded:
    import torch

    # also for the example inputs inside a .pt2, which PyTorch would else unpickle in full when
    # its careful way fails: torch/_export/serde/serialize.py, deserialize_torch_artifact
    if not given.options.trust:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    loaders: dict[str, Callable[[Given], Loaded]] = {
        "torch-export": _load_export,
        "torchscript": _load_script,
    }
    return loaders[given.source.kind](given)


def _load_export(given: Given) -> Loaded:
    import torch
    from torch.utils import _pytree as pytree

    path = given.source.path
    try:
        program = torch.export.load(path)
        values = {
            node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"
        }
        names = tuple(program.graph_signature.user_inputs)
        module = program.module()
    except errors() as error:
        raise _unloadable(given, error) from error
    example = []
    for name in names:
        value = values.get(str(name))
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"input {name} of {path.name} is no tensor", hint=_FIXED)
        sides = [side if isinstance(side, int) else None for side in value.shape]
        _refuse_batch(str(name), sides, path.name)
        example.append(torch.zeros(shapes.pin(str(name), sides, given.options), dtype=value.dtype))
    _refuse_other_floats(given, [*program.state_dict.values(), *program.constants.values()])
    spec = program.call_spec.in_spec

    def call(*flat: Any) -> Any:  # noqa: ANN401  PyTorch's values
        arguments, words = pytree.tree_unflatten(list(flat), spec)
        return pytree.tree_leaves(module(*arguments, **words))

    return Loaded(call=_module(call, module), names=tuple(map(str, names)), example=tuple(example))


def _load_script(given: Given) -> Loaded:
    import torch
    from torch.utils import _pytree as pytree

    path = given.source.path
    try:
        module = torch.jit.load(path, map_location="cpu").eval()
        arguments = module.forward.schema.arguments[1:]
    except errors() as error:
        raise _unloadable(given, error) from error
    needed = [item for item in arguments if not item.has_default_value()]
    for item in needed:
        if str(item.type) != "Tensor":
            raise ModelError(
                f"input {item.name} of {path.name} takes {item.type}, not a tensor", hint=_FIXED
            )
    names = tuple(_plain(item.name, place) for place, item in enumerate(needed))
    sides = _script_shapes(given, names)
    _refuse_other_floats(given, [*module.parameters(), *module.buffers()])

    def call(*flat: Any) -> Any:  # noqa: ANN401  PyTorch's values
        return pytree.tree_leaves(module(*flat))

    loaded = Loaded(
        call=_module(call, module),
        names=names,
        example=tuple(torch.zeros(shape) for shape in sides),
    )
    return _with_fitting_types(given, loaded)


def _plain(name: str, place: int) -> str:
    """TorchScript's mangled names (``x.1``) without their tail."""
    return name.split(".", maxsplit=1)[0] or f"input_{place}"


def _script_shapes(given: Given, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """From edgeq.toml, or else from the data.

    Raises:
        ModelError: neither says them.
    """
    told, data = given.options.shapes, given.options.data_shapes
    if len(told) == len(names):
        _refuse_told_batch(told)
        return told
    found = [data.get(name) for name in names]
    if len(names) == 1 and found[0] is None:
        found = [data.get(_FEATURES, data.get(""))]
    known = tuple((1, *shape) for shape in found if shape is not None)
    if not told and len(known) == len(names):
        return known
    line = "[1, 3, 224, 224]" if len(names) == 1 else "[[1, 3, 224, 224], [1, 10]]"
    said = f"edgeq.toml has {len(told)}, and " if told else ""
    raise ModelError(
        f"{given.source.path.name} says not what shape its inputs have ({', '.join(names)}): "
        f"{said}TorchScript does not keep them",
        hint=f"write them into edgeq.toml beside the model: [input] shape = {line}; or give data "
        "with --calibration FILE.npy",
    )


def _refuse_told_batch(told: Sequence[tuple[int, ...]]) -> None:
    for shape in told:
        if shape[0] != 1:
            raise ModelError(
                f"edgeq.toml says [input] shape = {list(shape)}, a batch of {shape[0]}",
                hint=f"write a batch of 1: {[1, *shape[1:]]}",
            )


def _with_fitting_types(given: Given, loaded: Loaded) -> Loaded:
    """float32 inputs, or int64 ones where the model takes no other (rows of a table)."""
    import torch

    try:
        run(given, loaded, loaded.example)
    except ModelError as first:
        whole = tuple(item.to(torch.int64) for item in loaded.example)
        try:
            run(given, loaded, whole)
        except ModelError:
            sides = [list(item.shape) for item in loaded.example]
            raise ModelError(
                f"{first.message}, with inputs of shape {', '.join(map(str, sides))}",
                hint="is [input] shape in edgeq.toml right?",
            ) from first
        return replace(loaded, example=whole)
    return loaded


def _module(call: Callable[..., Any], inner: Any) -> Any:  # noqa: ANN401  see _load_export
    """As a module, which the exporters want; ``inner`` is where its weights are."""
    import torch

    class Flat(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not where mypy runs
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *flat: Any) -> Any:  # noqa: ANN401  see _load_export
            return tuple(call(*flat))

    return Flat()


def run(given: Given, loaded: Loaded, batch: Sequence[Any]) -> list[Any]:
    import torch

    try:
        outputs = loaded.call(*batch)
    except errors() as error:
        raise ModelError(f"PyTorch cannot run {given.source.path.name}: {reason(error)}") from error
    for value in outputs:
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"{given.source.path.name} gives {value!r:.60}, which is no tensor")
    return [value.detach().contiguous() for value in outputs]


def _refuse_batch(name: str, sides: Sequence[int | None], file: str) -> None:
    if len(sides) > 1 and sides[0] not in (None, 1):
        raise ModelError(
            f"input {name} of {file} takes a batch of {sides[0]}",
            hint="export it again with a batch of 1, or an open one: "
            "dynamic_shapes=({0: torch.export.Dim('batch')},)",
        )


def _refuse_other_floats(given: Given, tensors: Sequence[Any]) -> None:
    import torch

    for value in tensors:
        if isinstance(value, torch.Tensor) and value.is_quantized:
            raise ModelError(
                f"{given.source.path.name} is already quantized: edgeq starts from a float model",
                hint="export the float model that it was made from",
            )
        if isinstance(value, torch.nn.Parameter | torch.Tensor) and value.dtype in (
            torch.float16,
            torch.bfloat16,
        ):
            kind = str(value.dtype).removeprefix("torch.")
            raise ModelError(
                f"{given.source.path.name} computes in {kind}: edgeq starts from float32",
                hint="export model.float(); --precision fp16 makes float16 of it again",
            )


def _unloadable(given: Given, error: Exception) -> ModelError:
    import torch

    return ModelError(
        f"PyTorch {torch.__version__} cannot load {given.source.path.name}: {reason(error)}",
        hint="is the file whole? else export it again with this version of PyTorch",
    )


def errors() -> tuple[type[Exception], ...]:
    """What PyTorch and its converters raise for a model that they cannot take."""
    from pickle import UnpicklingError
    from zipfile import BadZipFile

    import torch

    return (
        RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError,
        NotImplementedError, OSError, EOFError, ImportError, ZeroDivisionError, OverflowError,
        StopIteration, MemoryError, UnpicklingError, BadZipFile,
        torch.onnx.errors.OnnxExporterError,
    )  # fmt: skip


def reason(error: BaseException) -> str:
    """The first line that says something, or the cause's."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return textwrap.shorten(
        (lines or [type(error).__name__])[0], _REASON_CHARACTERS, placeholder=" …"
    )
