"""What stands in a .tflite file, and its answers: the one place that reads one on the host."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.errors import ModelError
from edgeq.formats import Tensors

Array = npt.NDArray[np.generic]
_OPTIONS_THREADS = 2
_FLOAT32, _FLOAT16 = 0, 1  # tensorflow/compiler/mlir/lite/schema/schema.fbs, enum TensorType
_BOUNDARY_OPS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_WEIGHT_OPS = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL", "CONV_3D"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Facts of the flatbuffer.

    Attributes:
        signatures: Names.
        quantized: A tensor has quantization parameters, or weights are not float32.
        dynamic_inputs: Names of inputs with an open axis, and their shapes; -1 is open.
    """

    signatures: tuple[str, ...]
    quantized: bool
    dynamic_inputs: tuple[tuple[str, tuple[int, ...]], ...]


class Runner:
    """A loaded model; inputs and outputs stand in the order of its own details.

    Raises:
        ModelError: the file is not a model that LiteRT can load.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(str(path), num_threads=_OPTIONS_THREADS)
            self._interpreter.allocate_tensors()
            self.tensors = _tensors(self._interpreter)
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{path.name} is damaged: a name in it is no text",
                hint="export or download it again",
            ) from error
        except (ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
            raise ModelError(f"LiteRT cannot load {path.name}: {_first_line(error)}") from error

    def run(self, batch: Sequence[Array]) -> list[npt.NDArray[np.generic]]:
        """Outputs of one batch, in the tensors' own types.

        Raises:
            ModelError: LiteRT cannot run it.
        """
        try:
            for detail, array in zip(self._interpreter.get_input_details(), batch, strict=True):
                self._interpreter.set_tensor(detail["index"], array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT cannot run the model: {_first_line(error)}") from error
        details = self._interpreter.get_output_details()
        return [np.array(self._interpreter.get_tensor(detail["index"])) for detail in details]


def runner(path: Path) -> Runner:
    """See ``formats.Module``."""
    return Runner(path)


def read_contents(path: Path) -> Contents:
    """Look into the file without running it.

    Raises:
        ModelError: it is no valid flatbuffer.
    """
    model = _read(path)
    graph = model.subgraphs[0]
    dynamic = []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        if shape is not None and any(int(side) < 0 for side in shape):
            dynamic.append((_text(tensor.name), tuple(int(side) for side in shape)))
    return Contents(
        signatures=tuple(_text(item.signatureKey) for item in model.signatureDefs or ()),
        quantized=any(_is_quantized(tensor) for part in model.subgraphs for tensor in part.tensors),
        dynamic_inputs=tuple(dynamic),
    )


def op_names(path: Path) -> tuple[str, ...]:
    """Names of the kinds of ops, sorted."""
    return _ops_where(path, lambda *_: True)


def float_ops(path: Path) -> tuple[str, ...]:
    """Names of the kinds of ops that still compute in float32, sorted."""
    return _ops_where(path, _computes_in_float)


def float_weight_ops(path: Path) -> tuple[str, ...]:
    """Names of the kinds of ops that still have float32 weights, sorted."""
    return _ops_where(path, _has_float_weights)


def pin_batch(path: Path) -> None:
    """Make every open axis of every tensor what its shape says, which is 1; rewrites the file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = _read(path)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.shapeSignature = None
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def rename(path: Path, inputs: Sequence[str], outputs: Sequence[str], to: Path) -> None:
    """Give the tensors and the signature of a model of litert-torch's the source's names.

    It calls them ``args_0``, ``output_0`` and so on, in the order of the source's.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = _read(path)
    graph = model.subgraphs[0]
    (signature,) = model.signatureDefs
    for items, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for item in items:
            name = names[int(_text(item.name).rsplit("_", 1)[1])].encode()
            item.name = name
            if items is signature.inputs:
                graph.tensors[item.tensorIndex].name = name
    to.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def _read(path: Path) -> Any:  # noqa: ANN401  the schema's generated classes have no types
    import struct

    from ai_edge_litert.tools import flatbuffer_utils

    try:
        model = flatbuffer_utils.read_model(str(path))
        if not model.subgraphs:
            raise ModelError(f"{path.name} is a .tflite file without a graph")
    except (struct.error, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path.name} is damaged: its flatbuffer cannot be read",
            hint="export or download it again",
        ) from error
    return model


def _ops_where(path: Path, wanted: Any) -> tuple[str, ...]:  # noqa: ANN401  see _read
    from ai_edge_litert.tools import flatbuffer_utils

    model = _read(path)
    found = set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) or str(code)
            if wanted(model, graph, operator, name):
                found.add(name)
    return tuple(sorted(found))


def _computes_in_float(_: Any, graph: Any, operator: Any, name: str) -> bool:  # noqa: ANN401
    return name not in _BOUNDARY_OPS and any(
        index >= 0 and graph.tensors[index].type == _FLOAT32 for index in operator.outputs
    )


def _has_float_weights(model: Any, graph: Any, operator: Any, name: str) -> bool:  # noqa: ANN401
    for index in operator.inputs if name in _WEIGHT_OPS else ():
        tensor = graph.tensors[index]
        buffer = model.buffers[tensor.buffer].data
        is_matrix = tensor.shape is not None and len(tensor.shape) > 1
        if index >= 0 and is_matrix and tensor.type == _FLOAT32 and buffer is not None:
            return True
    return False


def _is_quantized(tensor: Any) -> bool:  # noqa: ANN401  see _read
    parameters = tensor.quantization
    has_scale = parameters is not None and parameters.scale is not None
    return tensor.type == _FLOAT16 or (has_scale and len(parameters.scale) > 0)


def _tensors(interpreter: Any) -> Tensors:  # noqa: ANN401  the library has no types
    signatures = interpreter.get_signature_list()
    inputs: dict[int, str] = {}
    outputs: dict[int, str] = {}
    if signatures:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        inputs = {d["index"]: name for name, d in runner.get_input_details().items()}
        outputs = {d["index"]: name for name, d in runner.get_output_details().items()}
    return Tensors(
        inputs=tuple(_spec(item, inputs) for item in interpreter.get_input_details()),
        outputs=tuple(_spec(item, outputs) for item in interpreter.get_output_details()),
    )


def _spec(detail: Any, names: dict[int, str]) -> TensorSpec:  # noqa: ANN401  see _tensors
    scale, zero_point = detail["quantization"]
    quantized = bool(scale)
    return TensorSpec(
        name=names.get(detail["index"], detail["name"]),
        shape=tuple(int(side) for side in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale) if quantized else None,
        zero_point=int(zero_point) if quantized else None,
    )


def _text(raw: bytes | str | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def _first_line(error: Exception) -> str:
    # LiteRT glues its messages together: "… runtimeNode number 8 (…) failed to prepare."
    line = str(error).strip().split("\n", 1)[0]
    line = re.sub(r"(?<=\w)\.?(?=Node number \d)", ": ", line).removesuffix(".")
    return textwrap.shorten(line, 300, placeholder=" …")
