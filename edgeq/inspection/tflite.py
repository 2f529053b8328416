"""A .tflite file as a graph."""

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq.core.graph import ABSENT, FLOATS, Graph, Op, Quantization, Tensor
from edgeq.core.macs import Shape
from edgeq.errors import ModelError
from edgeq.inspection import tflite_ops

CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
# tensorflow/compiler/mlir/lite/schema/schema.fbs, enum TensorType
_TYPES = {"FLOAT8_E4M3FN": "float8", "FLOAT8_E5M2": "float8"}
_BLOCKWISE = "BlockwiseQuantizationT"
_CUSTOM = "CUSTOM"
_MAX_SIDES = 32
_SMALL_BYTES = 1024


def read(path: Path) -> Graph:
    """The first graph of the file.

    Raises:
        ModelError: it is damaged.
    """
    verify(path)
    model = load(path)
    try:
        return _Reader(model).graph()
    except (IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise _damaged(path) from error


def load(path: Path) -> Any:  # noqa: ANN401  the schema's generated classes have no types
    """The file's contents as the schema's objects.

    Raises:
        ModelError: it is damaged.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    try:
        model = flatbuffer_utils.read_model(str(path))
        if not model.subgraphs:
            raise ModelError(f"{path.name} is a .tflite file without a graph")
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, MemoryError) as error:
        raise _damaged(path) from error
    return model


def verify(path: Path) -> None:
    """Let LiteRT check every offset: the reader in Python trusts them.

    Raises:
        ModelError: they are wrong.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        Interpreter(str(path), num_threads=1)
    except ValueError as error:
        # an operator that this LiteRT lacks is no damage: it is looked at, not run
        if "op for builtin opcode" not in str(error) and "operator" not in str(error).lower():
            raise _damaged(path) from error
    except RuntimeError as error:
        raise _damaged(path) from error


def text(raw: bytes | str | None) -> str:
    """A name of the file."""
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"{path.name} is damaged: its flatbuffer cannot be read",
        hint="export or download it again",
    )


class _Reader:
    def __init__(self, model: Any) -> None:  # noqa: ANN401  see load
        from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

        self._model = model
        self._main = model.subgraphs[0]
        self._types = {
            value: _TYPES.get(name, name.lower())
            for name, value in vars(TensorType).items()
            if isinstance(value, int)
        }
        self._kinds = {
            value: name for name, value in vars(BuiltinOperator).items() if isinstance(value, int)
        }

    def graph(self) -> Graph:
        found = [self._tensor(tensor) for tensor in self._main.tensors]
        for number in self._first_states():
            found[number] = replace(found[number], parameter=False)
        tensors = tuple(found)
        ops = tuple(
            self._op(place, op, tensors) for place, op in enumerate(_list(self._main.operators))
        )
        inputs = self._numbers(self._main.inputs)
        outputs = self._numbers(self._main.outputs)
        given, returned = self._signature()
        return Graph(
            tensors=tensors,
            ops=ops,
            inputs=inputs,
            outputs=outputs,
            inner=tuple(self._inner()),
            input_names=tuple(given.get(n, tensors[n].name) for n in inputs),
            output_names=tuple(returned.get(n, tensors[n].name) for n in outputs),
            open_axes=tuple(self._open_axes(inputs)),
            notes=tuple(self._notes()),
            conversions=CONVERSIONS,
        )

    def _numbers(self, numbers: Any, *, absent: bool = False) -> tuple[int, ...]:  # noqa: ANN401
        found = tuple(int(number) for number in _list(numbers))
        lowest = ABSENT if absent else 0
        if any(not lowest <= number < len(self._main.tensors) for number in found):
            raise IndexError("a tensor that there is not")
        return found

    def _tensor(self, tensor: Any) -> Tensor:  # noqa: ANN401  see load
        dtype = self._types.get(tensor.type, f"type {tensor.type}")
        quantization = _quantization(tensor)
        buffer = self._model.buffers[tensor.buffer]
        stored = buffer.data is not None and len(buffer.data) > 0
        constant = bool((stored or buffer.offset) and not tensor.isVariable)
        return Tensor(
            name=text(tensor.name),
            shape=_shape(tensor.shape),
            dtype=dtype,
            constant=constant,
            parameter=constant and (dtype in FLOATS or quantization is not None),
            storage=int(tensor.buffer) if constant else None,
            variable=bool(tensor.isVariable),
            quantization=quantization,
        )

    def _op(self, place: int, op: Any, tensors: tuple[Tensor, ...]) -> Op:  # noqa: ANN401  see load
        kind, builtin = self._kind(op)
        inputs, outputs = self._numbers(op.inputs, absent=True), self._numbers(op.outputs)
        name = tensors[outputs[0]].name if outputs else f"{kind} {place}"
        shapes = [tensors[n].shape if n != ABSENT else None for n in inputs]
        result = tensors[outputs[0]].shape if outputs else None
        return Op(
            kind=kind,
            name=name,
            inputs=inputs,
            outputs=outputs,
            macs=tflite_ops.macs_of(kind, op, shapes, result) if builtin else None,
            builtin=builtin,
            parts=(place,),
        )

    def _inner(self) -> Iterator[Tensor]:
        for graph in self._model.subgraphs[1:]:
            for tensor in graph.tensors:
                if (made := self._tensor(tensor)).constant:
                    yield made

    def _first_states(self) -> Iterator[int]:
        """Zeros that only a loop reads: the state it begins with, which nobody trained."""
        readers: dict[int, set[str]] = {}
        for op in _list(self._main.operators):
            for number in self._numbers(op.inputs, absent=True):
                readers.setdefault(number, set()).add(self._kind(op)[0])
        for number, kinds in readers.items():
            data = self._model.buffers[self._main.tensors[number].buffer].data
            if kinds == {"WHILE"} and data is not None and not any(bytes(data)):
                yield number

    def _kind(self, op: Any) -> tuple[str, bool]:  # noqa: ANN401  see load
        """Its name, and whether it is one of the format's own."""
        code = self._model.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)  # schema_utils.cc
        kind = self._kinds.get(number, f"BUILTIN_{number}")
        return (text(code.customCode) or kind, False) if kind == _CUSTOM else (kind, True)

    def _signature(self) -> tuple[dict[int, str], dict[int, str]]:
        signatures = [s for s in self._model.signatureDefs or () if s.subgraphIndex == 0]
        if not signatures:
            return {}, {}
        inputs, outputs = (
            {int(item.tensorIndex): text(item.name) for item in _list(side)}
            for side in (signatures[0].inputs, signatures[0].outputs)
        )
        return inputs, outputs

    def _open_axes(self, inputs: tuple[int, ...]) -> list[str]:
        found = []
        for number in inputs:
            tensor = self._main.tensors[number]
            for axis, side in enumerate(_list(tensor.shapeSignature)):
                if int(side) < 0:
                    found.append(f"axis {axis} of {text(tensor.name)}")
        return found

    def _notes(self) -> list[str]:
        found = []
        if others := len(self._model.subgraphs) - 1:
            found.append(
                f"the operators of {others} inner graphs (branches, loops) are not counted"
            )
        if (unused := self._unused_bytes()) > _SMALL_BYTES:
            found.append(f"{unused:,} bytes of the file belong to no tensor")
        return found

    def _unused_bytes(self) -> int:
        """Buffers that neither a tensor nor the metadata names."""
        used = {int(t.buffer) for graph in self._model.subgraphs for t in graph.tensors}
        used |= {int(entry.buffer) for entry in _list(self._model.metadata)}
        return sum(
            len(buffer.data)
            for number, buffer in enumerate(self._model.buffers)
            if number not in used and buffer.data is not None
        )


def _list(values: Any) -> list[Any]:  # noqa: ANN401  a list, an array or None
    return [] if values is None else list(values)


def _shape(sides: Any) -> Shape:  # noqa: ANN401  see _list
    found = tuple(int(side) for side in _list(sides))
    if len(found) > _MAX_SIDES:
        raise ValueError("too many sides")
    return tuple(side if side >= 0 else None for side in found)


def _quantization(tensor: Any) -> Quantization | None:  # noqa: ANN401  see load
    found = tensor.quantization
    scales = tuple(float(scale) for scale in _list(found.scale)) if found is not None else ()
    if not scales or not all(math.isfinite(scale) for scale in scales):
        return None
    block = None
    if type(found.details).__name__ == _BLOCKWISE:
        block = int(found.details.blockSize)
    return Quantization(
        scales=scales,
        zero_points=tuple(int(point) for point in _list(found.zeroPoint)) or (0,),
        axis=int(found.quantizedDimension) if len(scales) > 1 else None,
        block=block,
    )
