"""What stands in an .onnx file, and its answers: the one place that reads one on the host.

A file is read once, checked, and run from the checked bytes: ONNX Runtime never gets a path, so it
can follow nothing out of the file.
"""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.model import TensorSpec
from edgeq.errors import ModelError
from edgeq.formats import Array, Tensors, onnx_order, onnx_walk

Model = Any
"""``onnx.ModelProto``, which has no types."""

Session = Any
"""``onnxruntime.InferenceSession``, likewise."""

MAX_BYTES = (2 << 30) - 1
"""Protobuf's limit: a larger model needs a second file for its weights."""

PLAIN_KEY = "edgeq.plain-products"
"""Metadata: the model was measured to be none the worse for products of 8 bits that overflow, so
that the faster ones may be taken."""

_THREADS = 2
_OPSET_LIMIT = 9999
_QUIET = 4  # onnxruntime's severity "fatal"
_BOUNDARY_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Where an error of ONNX Runtime comes from, which says nothing to a user.
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:"
    r"|Exception during initialization: |(?:/\S+/)?\w+\.(?:cc|h):\d+ "
    # a function with its types, or its name alone
    r"(?:[\w:~<>*& ,]*?::[\w~]+\([^()]*(?:\([^()]*\)[^()]*)*\)(?: const)?|\w+)\s"
)
_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
    "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(int16)": "int16",
    "tensor(uint16)": "uint16", "tensor(int32)": "int32", "tensor(uint32)": "uint32",
    "tensor(int64)": "int64", "tensor(uint64)": "uint64", "tensor(bool)": "bool",
}  # fmt: skip


class Runner:
    """A loaded model; inputs and outputs stand in the order of its own details.

    Raises:
        ModelError: the file is not a model that ONNX Runtime can load, or a shape of it is open.
    """

    def __init__(self, path: Path) -> None:
        model = read(path)
        self._session = session(model, path.name)
        self.tensors = _tensors(self._session, model, path.name)

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """Outputs of one batch, in the tensors' own types.

        Raises:
            ModelError: ONNX Runtime cannot run it.
        """
        names = (spec.name for spec in self.tensors.inputs)
        return list(run(self._session, dict(zip(names, batch, strict=True))).values())


def runner(path: Path) -> Runner:
    """See ``formats.Module``."""
    return Runner(path)


def op_names(path: Path) -> tuple[str, ...]:
    """Names of the kinds of ops, sorted; those of subgraphs and functions too."""
    return tuple(sorted({node.op_type for node in onnx_walk.nodes(read(path))}))


def read(path: Path) -> Model:
    """The model of a file, all of which is in that file.

    Raises:
        ModelError: it is damaged or larger than 2 GiB, has no graph, or keeps data elsewhere.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BYTES:
            raise ModelError(
                f"{path.name} has {size_bytes / (1 << 30):.1f} GiB; an .onnx file ends at 2 GiB",
                hint="edgeq takes models of one file; is a smaller one there?",
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, MemoryError) as error:
        raise _damaged(path.name, "its contents are no protobuf") from error
    _check(model, path.name)
    return model


def write(model: Model, path: Path) -> None:
    """The same model always gives the same bytes.

    Raises:
        ModelError: it grew beyond 2 GiB.
    """
    path.write_bytes(to_bytes(model))


def to_bytes(model: Model) -> bytes:
    """What ``write`` writes."""
    if model.ByteSize() > MAX_BYTES:
        raise ModelError("the model would be larger than 2 GiB, where an .onnx file ends")
    if not onnx_order.is_sorted(model.graph):
        model = copy(model)  # the caller may still hold its nodes
        onnx_order.sort(model.graph)
    return bytes(model.SerializeToString(deterministic=True))


def copy(model: Model) -> Model:
    made = type(model)()
    made.CopyFrom(model)
    return made


def drop_metadata(model: Model, beginning: str) -> None:
    """Forget what stands under keys that begin so."""
    kept = [item for item in model.metadata_props if not item.key.startswith(beginning)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def opset(model: Model) -> int:
    """The version of ONNX's own operators.

    Raises:
        ModelError: the model names none.
    """
    found = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if not found or not 0 < found[0] <= _OPSET_LIMIT:
        raise _damaged("the model", f"its opset is {found[0]}" if found else "it names no opset")
    return int(found[0])


def session(model: Model, name: str, *, optimized: Path | None = None) -> Session:
    """A model loaded into ONNX Runtime on the CPU.

    Args:
        model: Checked by ``read``, or made by edgeq.
        name: For the words of an error.
        optimized: Write what the basic optimizations make of it, and do no others.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not any(item.key == PLAIN_KEY for item in model.metadata_props):
        # x86 without VNNI adds two products of 8 bits in 16, which overflow; this way they do not.
        # onnxruntime_session_options_config_keys.h
        options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
    try:
        data = model.SerializeToString(deterministic=True)
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except errors() as error:
        raise ModelError(f"ONNX Runtime cannot load {name}: {reason(error)}") from error


def run(loaded: Session, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name for inputs by name.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    names = [item.name for item in loaded.get_outputs()]
    try:
        outputs = loaded.run(names, dict(feed))
    except errors() as error:
        raise ModelError(f"ONNX Runtime cannot run the model: {reason(error)}") from error
    return dict(zip(names, outputs, strict=True))


def answering(model: Model, name: str) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
    """The answers of a model as it is, open shapes and all.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """
    loaded = session(model, name)
    return lambda feed: run(loaded, feed)


def errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime and onnx raise for a model that is wrong."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    return (
        *(kind for kind in own if issubclass(kind, Exception)),
        RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
    )  # fmt: skip


def reason(error: BaseException) -> str:
    """The line that says most."""
    text = _NOISE.sub("", str(error)).strip()
    line = text.split("\n", 1)[0].strip() or type(error).__name__
    return textwrap.shorten(line, 300, placeholder=" …").removesuffix(".")


def _check(model: Model, name: str) -> None:
    if not model.HasField("graph") or not model.opset_import:
        raise _damaged(name, "it has no graph")
    if not all(isinstance(name, str) for name in onnx_walk.names(model)):
        raise _damaged(name, "a name in it is no text")  # protobuf gives bytes then
    if any(node.op_type == "EPContext" for node in onnx_walk.nodes(model)):
        raise ModelError(
            f"{name} holds a part compiled for one device (EPContext), which may name other files",
            hint="give the model that it was compiled from",
        )
    for tensor in onnx_walk.tensors(model):
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{name} keeps {tensor.name or 'a tensor'} in another file (external data), which "
                "edgeq never follows",
                hint="save it as one file: onnx.save(onnx.load(PATH), NEW), or "
                "torch.onnx.export(…, external_data=False)",
            )


def _damaged(name: str, how: str) -> ModelError:
    return ModelError(f"{name} is damaged: {how}", hint="export or download it again")


def _tensors(loaded: Session, model: Model, name: str) -> Tensors:
    scales = _boundary_scales(model)
    return Tensors(
        inputs=tuple(_spec(item, scales, name) for item in loaded.get_inputs()),
        outputs=tuple(_spec(item, scales, name) for item in loaded.get_outputs()),
    )


def _spec(item: Any, scales: Mapping[str, tuple[float, int]], name: str) -> TensorSpec:  # noqa: ANN401
    if item.type not in _DTYPES:
        raise ModelError(f"{item.name} of {name} is {item.type}, which edgeq cannot feed or read")
    if any(not isinstance(side, int) or side < 0 for side in item.shape):
        shown = ", ".join(str(side) if isinstance(side, int) else "?" for side in item.shape)
        raise ModelError(f"{item.name} of {name} has the open shape ({shown})")
    scale, zero_point = scales.get(item.name, (None, None))
    return TensorSpec(
        name=item.name,
        shape=tuple(item.shape),
        dtype=_DTYPES[item.type],
        scale=scale,
        zero_point=zero_point,
    )


def _boundary_scales(model: Model) -> dict[str, tuple[float, int]]:
    """Scale and zero point of inputs and outputs that are whole numbers, by name."""
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    edges = {item.name for item in (*model.graph.input, *model.graph.output)}
    found = {}
    for node in model.graph.node:
        if node.op_type not in _BOUNDARY_OPS or len(node.input) < 2:  # noqa: PLR2004
            continue
        name = node.input[0] if node.op_type == "DequantizeLinear" else node.output[0]
        known = [constants[item] for item in node.input[1:3] if item in constants]
        if name in edges and len(known) == len(node.input) - 1:
            scale, *rest = (np.asarray(numpy_helper.to_array(item)) for item in known)
            if scale.size == 1:
                found[name] = (float(scale.item()), int(rest[0].item()) if rest else 0)
    return found
