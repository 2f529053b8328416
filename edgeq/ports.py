"""What the host needs from the world, as Protocols. Adapters do not inherit from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeq.core.inventory import Device
from edgeq.core.model import FloatModel, Source, TensorSpec
from edgeq.core.samples import Samples

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
TensorSpecs = tuple[TensorSpec, ...]
Batch = tuple[Array, ...]
Predict = Callable[[Path, Sequence[Array]], list[Floats]]
"""Model file and inputs (one array of shape (samples, …) per input) to float32 outputs of the same
form."""

OnProgress = Callable[[str, int, int], None]
"""Progress: phase, done, total (0 when unknown)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended; ``status`` is -signal when a signal ended it, -1 when unknown."""

    status: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A running command on the device: bytes to its input, bytes from its output."""

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it.

        Raises:
            LinkLostError: the connection broke.
        """

    def receive(self, timeout_s: float) -> bytes:
        """The next bytes; empty at the end of the output.

        Raises:
            TimeoutError: nothing came in time.
            LinkLostError: the connection broke.
        """

    def close(self) -> Completed:
        """End the command's input, wait a little for its end, else kill it; no ``stdout``."""


class Link(Protocol):
    """One open connection to a device."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """Run a command to its end.

        Raises:
            LinkLostError: the connection broke.
            DeviceError: it did not end in time.
        """

    def open(self, argv: Sequence[str]) -> Channel:
        """Start a command and talk with it."""

    def close(self) -> None: ...


class Transport(Protocol):
    """A way to reach devices."""

    def connect(self, device: Device) -> Link:
        """Open a connection; the host key is checked before any log-in.

        Raises:
            ConnectError: see its subclasses.
        """


class Loader(Protocol):
    """A source format. Runs in a worker process: heavy imports, noise and crashes stay there."""

    def load(
        self, source: Source, folder: Path, probe: Callable[[TensorSpecs], Sequence[Batch]]
    ) -> FloatModel:
        """Write ``folder/pivot.tflite`` and compare it with the source on real inputs.

        Args:
            source: The user's model.
            folder: An empty folder of the caller's.
            probe: Gives inputs for the comparison once the input tensors are known; each batch
                holds one array per input, of shape ``(1, …)``.

        Raises:
            ModelError: the model cannot be loaded, or its pivot gives other answers.
        """


class Store(Protocol):
    """Where runs are kept."""

    def save(self, run_id: str, report_json: str, raw: bytes) -> None: ...

    def load(self, run_id: str) -> tuple[str, bytes]:
        """Report as JSON, and the raw samples. ``run_id`` may be shortened if it stays unique."""

    def list(self, limit: int) -> list[str]:
        """Reports as JSON, newest first."""


__all__ = [
    "Array", "Batch", "Channel", "Completed", "Floats", "Link", "Loader", "OnProgress", "Predict",
    "Samples", "Store", "TensorSpecs", "Transport",
]  # fmt: skip
