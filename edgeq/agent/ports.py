"""What the agent's parts say to each other."""

from __future__ import annotations

import errno
import typing
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire

SPACE_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
MIB = 1 << 20


class FailureError(Exception):
    """A request that cannot be carried out; becomes ``wire.Failed``, whose kinds it has."""

    def __init__(self, kind: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.detail = detail

    def reply(self) -> wire.Failed:
        return wire.Failed(kind=self.kind, message=self.message, detail=self.detail)


class HostGoneError(Exception):
    """The host hung up; nobody is left to answer."""


class HostSilentError(HostGoneError):
    """It did not hang up, but is not heard any more."""


def from_os_error(error: OSError) -> FailureError:
    """Translate what the operating system said about a file."""
    kind = "space" if error.errno in SPACE_ERRNOS else "io"
    where = "" if error.filename is None else f"{error.filename}: "
    return FailureError(kind, f"{where}{error.strerror or error}")


Array = typing.Any  # numpy.ndarray; numpy is imported late, and by children only


class Digest(typing.Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class Tensor:
    """An input or output of a loaded model.

    ``signature`` is the shape with -1 where it may change; ``scale`` 0.0: not quantized.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Runner(typing.Protocol):
    """A loaded model; positions are those of the model's own inputs and outputs."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    invoke: typing.Callable[[], None]

    def resize(self, shapes: typing.Sequence[tuple[int, ...]]) -> None:
        """Give every input its shape, and allocate."""

    def set(self, position: int, value: Array) -> None: ...

    def get(self, position: int) -> Array: ...

    def placements(self) -> tuple[wire.Placement, ...]:
        """Who ran the model so far, where ``load`` was told to look; called at most once."""


class RuntimeModule(typing.Protocol):
    """A file under ``runtimes/``. ``SUFFIX`` is that of the model files it runs."""

    NAME: str
    SUFFIX: str

    def version(self) -> str:
        """Import the runtime and say its version.

        Raises:
            ImportError: it is not there, or its library does not load.
        """

    def providers(self) -> tuple[str, ...]:
        """The execution providers it has; none where there is no such thing."""

    def check(self, model: Path) -> None:
        """Look at a file before the runtime opens it.

        Raises:
            FailureError: model, when it must not be opened.
        """

    def load(self, model: Path, runtime: wire.Runtime, *, observe: bool) -> Runner:
        """Load a model that was checked, not yet allocated.

        Args:
            model: The file.
            runtime: How.
            observe: Find out which execution providers run it, where that is a question.

        Raises:
            ValueError: the runtime refuses the model.
        """


_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST = 1e19  # beyond 64 bits: no kernel's number, but a register that was not read

Raw = typing.Tuple[bytes, ...]


class Slow(typing.Protocol):
    """A source that is no file: a program's output, say. It has a thread and a rate of its own.

    ``cpu_s``: what reading it has cost so far, beyond the thread's own time. ``most_hz``: so many
    readings a second are worth their cost.
    """

    cpu_s: float
    most_hz: float

    def __call__(self) -> bytes:
        """One reading; empty when there is none."""


@dataclass(frozen=True)
class Sensor:
    """One channel of the sampler: the files to read, and how their rows become values.

    ``slow``: the source of the one raw value, instead of files. ``clock``: when each row was
    measured, in seconds of a clock with any zero, where the source says that itself; rows of the
    same moment are one reading.
    """

    channel: wire.Channel
    files: tuple[Path, ...]
    parse: typing.Callable[[typing.Sequence[Raw]], list[float | None]]
    slow: Slow | None = None
    clock: typing.Callable[[Raw], float | None] | None = None


@dataclass(frozen=True)
class Found:
    """What a probe found; ``reason`` says why there is nothing, or nothing usable."""

    sensors: tuple[Sensor, ...] = ()
    reason: str = ""


def each(
    value: typing.Callable[[Raw], float | None],
) -> typing.Callable[[typing.Sequence[Raw]], list[float | None]]:
    """A column parser from a row parser."""
    return lambda rows: [value(row) for row in rows]


def number(text: bytes) -> float | None:
    """The number a sysfs file begins with, None if it is none; JetPack 4 may append a unit."""
    words = text.strip(b" \t\r\n\0").split(None, 1)
    digits = words[0].rstrip(_LETTERS) if words else b""
    try:
        value = float(digits if b"_" not in digits else b"")
    except ValueError:
        return None
    return value if abs(value) < _MOST else None


def text_of(path: Path) -> str:
    """A small file's stripped text; empty where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip().strip("\0")
    except OSError:
        return ""


def numbered(folder: Path, prefix: str) -> list[Path]:
    """The entries ``<prefix><number>`` in their numbers' order."""
    found = [
        (int(path.name[len(prefix) :]), path)
        for path in folder.glob(prefix + "*")
        if path.name[len(prefix) :].isdigit()
    ]
    return [path for _, path in sorted(found)]
