"""What is in a .onnx file, read without the library: is it fit to be opened by ONNX Runtime?

A .onnx may name other files that hold its weights, and ONNX Runtime opens them: a path such as
``../../etc/shadow``, or a link, would be read on a device that trusts nobody's model. So nothing
outside the file is allowed, wherever it is named: in initializers, sparse ones, attributes, nested
graphs, functions and training graphs. Field numbers are those of ``onnx/onnx.proto`` (IR version
13); the encoding is protobuf's (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from edgeq.agent.ports import FailureError

MAX_BYTES = (1 << 31) - 1  # protobuf's own limit for one message
_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
# libprotobuf cuts a longer tag, or a greater one, so that it would mean another field there.
_MOST_TAG_BYTES = 5
_MOST_TAG = 0xFFFFFFFF
_MOST_VARINT_BYTES = 10
_MORE = 0x80
_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT16 = 10  # TensorProto.DataType
# The messages in which tensors may be, by field; the rest holds none.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_MODEL_METADATA, _PLAIN_KEY = 14, b"edgeq.plain-products"
_NODE_OP, _TENSOR_TYPE, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 4, 2, 13, 14


@dataclass(frozen=True)
class Contents:
    """``quantized``: it has QuantizeLinear nodes; ``half``: it has float16 weights.

    ``plain``: edgeq measured that products of 8 bits which overflow do it no harm.
    """

    quantized: bool = False
    half: bool = False
    plain: bool = False


def read(path: Path) -> Contents:
    """Look through a .onnx file.

    Raises:
        FailureError: model, when it is damaged, too large, or names other files.
    """
    size_bytes = path.stat().st_size
    if not 0 < size_bytes <= MAX_BYTES:
        what = "it is empty" if not size_bytes else "it has more than 2 GiB"
        raise FailureError("model", f"{path.name} is not a .onnx that can be run: {what}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).read()
        except _DamagedError as error:
            raise FailureError("model", f"{path.name} is not a .onnx: {error}") from error
        except _ForbiddenError as error:
            raise FailureError("model", f"{path.name} is refused: {error}") from error


class _DamagedError(Exception):
    pass


class _ForbiddenError(Exception):
    pass


class _Reader:
    """Goes through messages by a list of those still to be read, so that depth has no limit."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._quantized = self._half = self._plain = False
        self._left = [("model", 0, len(data))]

    def read(self) -> Contents:
        while self._left:
            kind, start, end = self._left.pop()
            self._message(kind, start, end)
        return Contents(self._quantized, self._half, self._plain)

    def _message(self, kind: str, at: int, end: int) -> None:
        children = _CHILDREN[kind]
        while at < end:
            field, wire_type, at = self._tag(at, end)
            if wire_type == _VARINT:
                value, at = self._varint(at, end, _MOST_VARINT_BYTES)
                if kind == "tensor":
                    self._number(field, value & 0xFFFFFFFF)
            elif wire_type == _BYTES:
                size, start = self._varint(at, end, _MOST_VARINT_BYTES)
                at = self._skip(start, size, end)
                if field in children:
                    self._left.append((children[field], start, at))
                else:
                    self._bytes(kind, field, start, at)
            elif wire_type in _FIXED_BYTES:
                at = self._skip(at, _FIXED_BYTES[wire_type], end)
            else:  # groups, which ONNX has none of, and what protobuf has none of
                raise _DamagedError(f"a field of no kind at byte {at}")

    def _number(self, field: int, value: int) -> None:
        """A tensor's number; libprotobuf cuts an enum to 32 bits, as was done here."""
        if field == _TENSOR_LOCATION and value == _EXTERNAL:
            raise _ForbiddenError("its weights are in another file")
        if field == _TENSOR_TYPE and value == _FLOAT16:
            self._half = True

    def _bytes(self, kind: str, field: int, start: int, end: int) -> None:
        if kind == "tensor" and field == _TENSOR_EXTERNAL:
            raise _ForbiddenError("it names another file for its weights")
        if kind == "model" and field == _MODEL_METADATA:
            self._plain = self._plain or self._data.find(_PLAIN_KEY, start, end) >= 0
        if kind == "node" and field == _NODE_OP:
            operator = self._data[start:end]
            if operator == b"EPContext":  # may name a compiled engine in a file
                raise _ForbiddenError("it holds a part compiled for one device (EPContext)")
            self._quantized = self._quantized or operator == b"QuantizeLinear"

    def _tag(self, at: int, end: int) -> tuple[int, int, int]:
        value, after = self._varint(at, end, _MOST_TAG_BYTES)
        if not 0 < value >> 3 <= _MOST_TAG >> 3:
            raise _DamagedError(f"a field without a number at byte {at}")
        return value >> 3, value & 7, after

    def _varint(self, at: int, end: int, most_bytes: int) -> tuple[int, int]:
        value = shift = 0
        for position in range(at, min(end, at + most_bytes)):
            byte = self._data[position]
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value, position + 1
            shift += 7
        raise _DamagedError(f"a number that does not end at byte {at}")

    @staticmethod
    def _skip(at: int, size: int, end: int) -> int:
        if size > end - at:
            raise _DamagedError(f"a part that ends after the file, at byte {at}")
        return at + size
