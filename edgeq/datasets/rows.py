"""Arrays of .npy form, a few rows at a time: an array larger than memory can be read."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NoReturn
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgeq.datasets import tensors
from edgeq.errors import DataError

Array = npt.NDArray[np.generic]
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """``fortran``: the first axis runs fastest, so that a row is strewn over the whole file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool

    @property
    def samples(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize

    @property
    def size_bytes(self) -> int:
        count = int(np.prod(self.shape, dtype=object)) if self.shape else 1
        return count * self.dtype.itemsize


def read_header(stream: IO[bytes], origin: str) -> Header:
    """The beginning of a .npy; the stream stands at its data afterwards.

    Raises:
        DataError: damaged, or of Python objects.
    """
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            reader = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except (ValueError, EOFError, OSError, TypeError, SyntaxError, struct.error) as error:
        _damaged(origin, error)
    if dtype.hasobject:
        raise DataError(
            f"{origin} holds Python objects, which are not read",
            hint="save a plain array of numbers",
        )
    return Header(shape=tuple(shape), dtype=dtype, fortran=fortran)


def refuse_other_size(header: Header, size_bytes: int, origin: str) -> None:
    """Stop at a file whose data is not as long as its beginning says.

    Raises:
        DataError: it is not.
    """
    if header.size_bytes != size_bytes:
        _damaged(origin, None)


def read_array(stream: IO[bytes], origin: str) -> Array:
    """All of a .npy.

    Raises:
        DataError: damaged, of Python objects, or larger than 4 GiB.
    """
    header = read_header(stream, origin)
    if header.size_bytes > tensors.MAX_BYTES:
        raise DataError(f"{origin} is larger than 4 GiB", hint="give fewer samples")
    return _whole(stream, header, origin)


def read_rows(stream: IO[bytes], header: Header, batch: int, origin: str) -> Iterator[Array]:
    """All rows in order, at most ``batch`` at a time.

    Raises:
        DataError: damaged, or in Fortran order and larger than 4 GiB.
    """
    if header.fortran and len(header.shape) > 1:
        if header.size_bytes > tensors.MAX_BYTES:
            raise DataError(
                f"{origin} is larger than 4 GiB and in Fortran order, which has no rows in a row",
                hint="save it with numpy.save(FILE, numpy.ascontiguousarray(ARRAY))",
            )
        whole = _whole(stream, header, origin)
        for start in range(0, header.samples, batch):
            yield whole[start : start + batch]
        return
    for start in range(0, header.samples, batch):
        count = min(batch, header.samples - start)
        data = _exactly(stream, count * header.row_bytes, origin)
        yield np.frombuffer(data, header.dtype).reshape(count, *header.shape[1:])
    # a zip checks the sum of its contents when it comes to their end
    if _some(stream, 1, origin):
        _damaged(origin, None)


def _whole(stream: IO[bytes], header: Header, origin: str) -> Array:
    data = _exactly(stream, header.size_bytes, origin)
    array = np.frombuffer(data, header.dtype)
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def _exactly(stream: IO[bytes], size_bytes: int, origin: str) -> bytearray:
    """So many bytes; what a header only claims takes no memory."""
    data = bytearray()
    while len(data) < size_bytes:
        piece = _some(stream, min(_PIECE_BYTES, size_bytes - len(data)), origin)
        if not piece:
            _damaged(origin, None)
        data += piece
    return data


def _some(stream: IO[bytes], size_bytes: int, origin: str) -> bytes:
    try:
        return stream.read(size_bytes)
    except (OSError, EOFError, ValueError, zlib.error, BadZipFile) as error:
        _damaged(origin, error)


def _damaged(origin: str, error: Exception | None) -> NoReturn:
    raise DataError(
        f"{origin} is damaged: it is not a whole .npy array",
        hint="save it again with numpy.save or numpy.savez",
    ) from error
