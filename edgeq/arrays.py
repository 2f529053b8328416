"""Arrays on their way to and from a device: .npz without pickles."""

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from edgeq.ports import Array

MAX_BYTES = 1 << 30


def pack(arrays: Sequence[Array]) -> bytes:
    """An .npz whose arrays are called by their position."""
    buffer = io.BytesIO()
    named = {str(position): array for position, array in enumerate(arrays)}
    np.savez(buffer, **named)  # type: ignore[arg-type]  # the stub takes each for allow_pickle
    return buffer.getvalue()


def unpack(data: bytes, samples: int, fail: Callable[[str], NoReturn]) -> list[Array]:
    """Outputs from an .npz of a device: no pickles, no bombs, as many samples as were asked for."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        if unpacked_bytes > MAX_BYTES:
            fail("its outputs unpack to too much")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = [stored[str(position)] for position in range(len(stored.files))]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        fail("its outputs are damaged: no plain arrays of numbers")  # numpy would advise pickles
    if not arrays or any(not array.ndim or len(array) != samples for array in arrays):
        fail(f"its outputs are not for {samples} samples")
    return arrays
