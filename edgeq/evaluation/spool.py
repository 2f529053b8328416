"""Outputs on their way to metrics that want all of them: on the disk, as .npy."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from edgeq.errors import HostError
from edgeq.ports import Array, Floats


class Spool:
    """Files of a folder that grow by batches; a context manager.

    Args:
        folder: Of the caller's; it is there.
        samples: How many will come in all.
    """

    def __init__(self, folder: Path, samples: int) -> None:
        self._folder = folder
        self._samples = samples
        self._files: dict[str, IO[bytes]] = {}

    def add(
        self,
        one: Sequence[Floats] | None,
        other: Sequence[Floats] | None,
        labels: Array | None,
    ) -> None:
        """Take a batch of outputs of the float model, of the artifact, and labels.

        Raises:
            HostError: the disk is full.
        """
        try:
            for name, outputs in (("float", one), ("artifact", other)):
                for place, array in enumerate(outputs or ()):
                    self._write(f"{name}-{place}", array)
            if labels is not None:
                self._write("labels", labels)
        except OSError as error:
            raise HostError(
                f"cannot keep the outputs in {self._folder}: {error.strerror}", hint="free space"
            ) from error

    def outputs(self, name: str) -> tuple[Path, ...]:
        """Files of ``float`` or ``artifact``, one an output; none if it did not answer."""
        count = sum(key.startswith(f"{name}-") for key in self._files)
        return tuple(self._path(f"{name}-{place}") for place in range(count))

    @property
    def labels(self) -> Path | None:
        return self._path("labels") if "labels" in self._files else None

    def close(self) -> None:
        """What was written is on the disk."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, name: str, array: Array) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = self._path(name).open("wb")
            header = {
                "descr": np.lib.format.dtype_to_descr(array.dtype),
                "fortran_order": False,
                "shape": (self._samples, *array.shape[1:]),
            }
            np.lib.format.write_array_header_2_0(file, header)
        file.write(np.ascontiguousarray(array).data)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npy"
