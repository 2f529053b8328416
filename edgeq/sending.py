"""Files and bytes of the host, in pieces as they are sent."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edgeq.errors import HostError
from edgeq.ports import OnProgress

PIECE_BYTES = 1 << 20


def size(data: Path | bytes) -> int:
    """In bytes.

    Raises:
        HostError: it cannot be read.
    """
    if isinstance(data, bytes):
        return len(data)
    try:
        return data.stat().st_size
    except OSError as error:
        raise HostError(f"cannot read {data}: {error.strerror}") from error


def pieces(
    data: Path | bytes, offset: int, size_bytes: int, on_progress: OnProgress
) -> Iterator[memoryview]:
    done = offset
    on_progress("push", done, size_bytes)
    for piece in _read(data, offset, size_bytes):
        yield piece
        done += len(piece)
        on_progress("push", done, size_bytes)


def prefix_sha256(data: Path | bytes, size_bytes: int) -> str:
    """SHA-256 of the first bytes, as hex."""
    digest = hashlib.sha256()
    for piece in _read(data, 0, size_bytes):
        digest.update(piece)
    return digest.hexdigest()


def _read(data: Path | bytes, offset: int, end: int) -> Iterator[memoryview]:
    """Bytes ``offset`` to ``end`` in pieces; a piece is overwritten by the next one of a file."""
    if isinstance(data, bytes):
        view = memoryview(data)
        for start in range(offset, end, PIECE_BYTES):
            yield view[start : min(start + PIECE_BYTES, end)]
        return
    piece = memoryview(bytearray(PIECE_BYTES))
    try:
        with data.open("rb", buffering=0) as file:
            file.seek(offset)
            while offset < end:
                count = file.readinto(piece[: end - offset])
                if not count:
                    raise HostError(f"{data} became shorter while it was read")
                offset += count
                yield piece[:count]
    except OSError as error:
        raise HostError(f"cannot read {data}: {error.strerror}") from error
