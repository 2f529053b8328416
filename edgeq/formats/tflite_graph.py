"""The main graph of a .tflite file as ops and tensors whose constants can be replaced."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError

Array = npt.NDArray[np.generic]
# tensorflow/compiler/mlir/lite/schema/schema.fbs, enum TensorType
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
_INT4 = 17
_THREADS = 2
_SIGN, _NIBBLE = 8, 16  # of a number of 4 bits
LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Ops with weights, and the axis of their output channels in them."""
DATA, WEIGHTS, BIAS = 0, 1, 2
"""Places among a layer's inputs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Op:
    """One operator.

    Attributes:
        place: In execution order.
        name: As in the schema, such as ``CONV_2D``.
        inputs: Tensor numbers; -1 is an input left out. ``outputs`` likewise.
        options: The schema's own object, or None.
    """

    place: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """One tensor.

    Attributes:
        shape: Without the axes of a scalar.
        dtype: NumPy's name; ``int4``, or ``other`` for what NumPy has no name.
        constant: It has its values in the file.
        scales: Real value of one step, one or one per channel; empty when not quantized.
        zero_points: As many.
        axis: Of the channels.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    scales: npt.NDArray[np.float64]
    zero_points: npt.NDArray[np.int64]
    axis: int


class Graph:
    """A model whose constants may be replaced.

    Raises:
        ModelError: the flatbuffer is damaged.
    """

    def __init__(self, content: bytes) -> None:
        import struct

        from ai_edge_litert.tools import flatbuffer_utils

        try:
            self._model = flatbuffer_utils.read_model_from_bytearray(content)
            self._graph = self._model.subgraphs[0]
            self.inputs = tuple(int(i) for i in self._graph.inputs)
            self.outputs = tuple(int(i) for i in self._graph.outputs)
            self.tensors = tuple(self._tensor(raw) for raw in self._graph.tensors)
            self.ops = tuple(self._op(i, raw) for i, raw in enumerate(self._graph.operators))
        except (struct.error, ValueError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(
                "the model is damaged: its flatbuffer cannot be read",
                hint="export or download it again",
            ) from error

    def array(self, number: int) -> Array:
        """A constant's values, in its own type and shape."""
        tensor = self.tensors[number]
        data = self._model.buffers[self._graph.tensors[number].buffer].data
        return np.frombuffer(bytes(data), dtype=tensor.dtype).reshape(tensor.shape)

    def real(self, number: int) -> npt.NDArray[np.float64]:
        """A constant's real values: quantized ones as what they stand for."""
        tensor = self.tensors[number]
        if tensor.dtype == "int4":
            data = self._model.buffers[self._graph.tensors[number].buffer].data
            packed = np.frombuffer(bytes(data), np.uint8)
            pairs = np.stack([packed % _NIBBLE, packed // _NIBBLE], axis=1).reshape(-1)
            whole = (pairs[: int(np.prod(tensor.shape))].astype(np.int64) ^ _SIGN) - _SIGN
            values = whole.reshape(tensor.shape).astype(np.float64)
        else:
            values = self.array(number).astype(np.float64)
        if not tensor.scales.size:
            return values
        along = [1] * values.ndim
        if tensor.scales.size > 1:
            along[tensor.axis] = -1
        found: npt.NDArray[np.float64] = (
            values - tensor.zero_points.reshape(along)
        ) * tensor.scales.reshape(along)
        return found

    def replace(self, number: int, values: Array) -> None:
        """Give a constant other values; no other tensor that shared its buffer changes."""
        from ai_edge_litert import schema_py_generated as schema

        tensor = self.tensors[number]
        buffer = schema.BufferT()
        content = np.ascontiguousarray(values, dtype=tensor.dtype).reshape(tensor.shape).tobytes()
        buffer.data = np.frombuffer(content, dtype=np.uint8)
        before = self._graph.tensors[number].buffer
        users = [t for graph in self._model.subgraphs for t in graph.tensors if t.buffer == before]
        if len(users) == 1:  # else what nobody reads any more would stay in the file
            self._model.buffers[before] = buffer
            return
        self._model.buffers.append(buffer)
        self._graph.tensors[number].buffer = len(self._model.buffers) - 1

    def content(self) -> bytes:
        """The file."""
        from ai_edge_litert.tools import flatbuffer_utils

        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def makers(self) -> dict[int, Op]:
        """Which op makes a tensor, by the tensor's number."""
        return {number: op for op in self.ops for number in op.outputs}

    def readers(self) -> dict[int, tuple[Op, ...]]:
        """Which ops read a tensor, by the tensor's number; an op that reads it twice, twice."""
        found: dict[int, tuple[Op, ...]] = {}
        for op in self.ops:
            for number in op.inputs:
                found[number] = (*found.get(number, ()), op)
        return found

    def layers(self) -> tuple[Op, ...]:
        """Those of ``LAYERS`` whose weights and bias are plain float32 constants of their own."""
        readers = self.readers()
        return tuple(op for op in self.ops if op.name in LAYERS and self._is_plain(op, readers))

    def _is_plain(self, op: Op, readers: dict[int, tuple[Op, ...]]) -> bool:
        if op.name == "FULLY_CONNECTED" and getattr(op.options, "weightsFormat", 0) != 0:
            return False
        return all(
            self.tensors[i].constant
            and self.tensors[i].dtype == "float32"
            and len(readers[i]) == 1
            and i not in self.outputs
            for i in op.inputs[WEIGHTS:]
            if i >= 0
        )

    def _op(self, place: int, raw: Any) -> Op:  # noqa: ANN401  the schema's classes have no types
        from ai_edge_litert.tools import flatbuffer_utils

        return Op(
            place=place,
            name=flatbuffer_utils.opcode_to_name(self._model, raw.opcodeIndex) or "UNKNOWN",
            inputs=() if raw.inputs is None else tuple(int(i) for i in raw.inputs),
            outputs=() if raw.outputs is None else tuple(int(i) for i in raw.outputs),
            options=raw.builtinOptions,
        )

    def _tensor(self, raw: Any) -> Tensor:  # noqa: ANN401  see _op
        quantization = raw.quantization
        has_scales = quantization is not None and quantization.scale is not None
        scales = quantization.scale if has_scales else ()
        zero_points = quantization.zeroPoint if has_scales else ()
        return Tensor(
            name=raw.name.decode(errors="replace") if isinstance(raw.name, bytes) else raw.name,
            shape=() if raw.shape is None else tuple(int(side) for side in raw.shape),
            dtype="int4" if raw.type == _INT4 else _TYPES.get(raw.type, "other"),
            constant=self._model.buffers[raw.buffer].data is not None,
            scales=np.asarray(scales, np.float64),
            zero_points=np.asarray(() if zero_points is None else zero_points, np.int64),
            axis=int(quantization.quantizedDimension) if has_scales else 0,
        )


def interpreter(content: bytes, *, preserve: bool) -> Any:  # noqa: ANN401  no types
    """A model ready to run; with ``preserve`` all its tensors can be read afterwards.

    Raises:
        ValueError, RuntimeError: LiteRT cannot load it.
    """
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        # it says that preserving all tensors takes memory, which is known
        warnings.simplefilter("ignore", UserWarning)
        made = Interpreter(
            model_content=content,
            num_threads=_THREADS,
            experimental_preserve_all_tensors=preserve,
        )
    made.allocate_tensors()
    return made


def run(loaded: Any, batch: Sequence[Array]) -> None:  # noqa: ANN401  see interpreter
    """One batch through an interpreter.

    Raises:
        ValueError, RuntimeError: LiteRT cannot run it.
    """
    for detail, array in zip(loaded.get_input_details(), batch, strict=True):
        loaded.set_tensor(detail["index"], array)
    loaded.invoke()


def scopes(content: bytes) -> dict[str, tuple[str, ...]]:
    """Each tensor's name, and the scopes of the ops that belong to it.

    That is the op which makes the tensor; for a constant or an input the ops which read it. A
    scope is the names of an op's outputs, each ended by ``;``.

    Raises:
        ModelError: the flatbuffer is damaged.
    """
    graph = Graph(content)
    makers, readers = graph.makers(), graph.readers()
    found = {}
    for number, tensor in enumerate(graph.tensors):
        owners = (makers[number],) if number in makers else readers.get(number, ())
        found[tensor.name] = tuple(
            "".join(f"{graph.tensors[i].name};" for i in op.outputs if i >= 0) for op in owners
        )
    return found


def has_int4(content: bytes) -> bool:
    """Whether a tensor is int4."""
    return any(tensor.dtype == "int4" for tensor in Graph(content).tensors)
