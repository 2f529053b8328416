"""What host and agent say to each other: one JSON object a line, at times raw bytes behind it.

The host sends one request at a time; the agent answers with any number of ``Progress`` and then
with one reply, ``Failed`` if it could not. A message whose ``payload_bytes`` is positive is
followed by exactly that many raw bytes. The first message is the agent's ``Hello``; what a login
shell prints before it is skipped.

The wire only grows: an unknown field is dropped, a new field has a default, a changed meaning is a
new ``PROTOCOL``. Durations are integer nanoseconds of the device's monotonic clock. This file runs
on the
device too: standard library, Python 3.8.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass

PROTOCOL = 1
MAX_LINE_BYTES = 64 << 20
PREFIX = b'{"type": "'


class WireError(Exception):
    """The other side sent what is not a message."""


@dataclass(frozen=True)
class Hello:
    """The agent is there. ``root`` is its folder, absolute (``~/.edgeq``)."""

    protocol: int
    version: str
    python: str
    root: str
    free_bytes: int = 0


@dataclass(frozen=True)
class Done:
    """The request was carried out and there is nothing more to say."""


@dataclass(frozen=True)
class Failed:
    """The request failed.

    ``kind`` is one of: busy, space, hash, missing, refused, io, crash, hang, memory, runtime,
    model, internal. ``detail`` holds the last lines of a child's error output, or a signal's name.
    """

    kind: str
    message: str
    detail: str = ""


@dataclass(frozen=True)
class Progress:
    """A long request goes on. ``total`` is 0 where it is not known."""

    phase: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Bye:
    """Host: end the session. The agent lets go of its lock and exits."""


@dataclass(frozen=True)
class Lock:
    """Take the device's lock for this session; ``Failed`` busy with the holder's words."""

    holder: str


@dataclass(frozen=True)
class Put:
    """Begin to send a file to ``path``.

    It is relative to the root; ``scratch/…`` is the session's own scratch folder. Answer:
    ``PutState``. The host then sends ``Data`` with the rest, answered by ``Done`` once
    size and SHA-256 were checked, the bytes are on the disk and the file was renamed into place.
    ``Failed`` kinds: space, hash, io.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class PutState:
    """How much of the file is there from an earlier try; ``complete`` when nothing need be sent.

    ``prefix_sha256`` is that of the first ``have_bytes``. The host compares it with its own and
    starts at ``have_bytes`` if they are equal, else at 0.
    """

    have_bytes: int = 0
    prefix_sha256: str = ""
    complete: bool = False


@dataclass(frozen=True)
class Get:
    """Ask for the file ``path``; answer: ``Data`` from 0."""

    path: str


@dataclass(frozen=True)
class Data:
    """Raw bytes follow, to stand at ``offset_bytes``."""

    payload_bytes: int
    offset_bytes: int = 0


@dataclass(frozen=True)
class Unpack:
    """Unpack the zip ``path`` into ``into`` (checked, atomic), then delete the zip; ``Done``."""

    path: str
    into: str


@dataclass(frozen=True)
class Exists:
    """Which of these paths (relative to the root) are there? Answer: ``Existing``."""

    paths: typing.Tuple[str, ...]


@dataclass(frozen=True)
class Existing:
    paths: typing.Tuple[str, ...]


@dataclass(frozen=True)
class Runtime:
    """How a model is run.

    ``kind`` names the adapter (litert, tflite_runtime, onnxruntime); ``paths`` go in front of
    PYTHONPATH: folders relative to the root; none means what the device's Python has. The others
    are ONNX Runtime's: ``providers`` in order (TensorRT, CUDA, XNNPACK, CPU), of which CPU need
    not be named; ``graph_optimization``: all, extended, basic or disabled.
    """

    kind: str
    paths: typing.Tuple[str, ...] = ()
    threads: int = 1
    providers: typing.Tuple[str, ...] = ()
    arena: bool = True
    graph_optimization: str = "all"


@dataclass(frozen=True)
class Probe:
    """Does this runtime import and run, in a child process? ``Probed``, never ``Failed``."""

    runtime: Runtime


@dataclass(frozen=True)
class Probed:
    """``providers``: those that this build of ONNX Runtime has; whether they work shows later."""

    ok: bool
    name: str = ""
    version: str = ""
    numpy_version: str = ""
    detail: str = ""
    providers: typing.Tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file of a release: a plain name, no folder."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Stage:
    """Begin a release.

    Files whose content the device has already (checked) are linked, the rest is asked for.
    Answer: ``Staged``. ``folder`` is relative to the root; the host puts the ``missing`` files
    there, then sends ``Seal``. ``exists``: the release is there and whole, nothing need be sent or
    sealed.
    """

    model: str
    release: str
    files: typing.Tuple[File, ...]


@dataclass(frozen=True)
class Staged:
    folder: str
    missing: typing.Tuple[str, ...] = ()
    exists: bool = False


@dataclass(frozen=True)
class Seal:
    """All files are there: check each one, sync, rename the folder to releases/<release>."""

    model: str
    release: str
    folder: str
    files: typing.Tuple[File, ...]


@dataclass(frozen=True)
class Commit:
    """Make the release ``current`` and the one before it ``previous``; answer: ``Releases``."""

    model: str
    release: str


@dataclass(frozen=True)
class Discard:
    """The trial failed. Answer: ``Releases`` as they are afterwards.

    A release that is not ``current`` is removed (never ``previous``). If it *is* ``current`` and
    there is a ``previous``, ``current`` goes back to it; else it stays.
    """

    model: str
    release: str
    reason: str


@dataclass(frozen=True)
class Rollback:
    """``current`` and ``previous`` change places: ``Releases``; ``Failed`` missing if none."""

    model: str


@dataclass(frozen=True)
class ListReleases:
    """All models when ``model`` is empty; answer: ``ReleaseList``."""

    model: str = ""


@dataclass(frozen=True)
class Releases:
    model: str
    current: str = ""
    previous: str = ""
    releases: typing.Tuple[str, ...] = ()


@dataclass(frozen=True)
class ReleaseList:
    models: typing.Tuple[Releases, ...] = ()


@dataclass(frozen=True)
class Predict:
    """Run ``model`` on inputs, in a child process; answer: ``Predicted``.

    ``inputs`` is an .npz with one array per model input, keyed by its position ("0", "1", …), each
    of shape (samples, …) without the model's batch axis, in the model's dtype or float32 (then
    quantized with the model's own parameters). The child writes ``outputs``, an .npz of the same
    form holding float32 (dequantized) outputs when ``dequantize``, else the raw ones. Paths are
    relative to the root; ``/…`` is absolute.
    """

    model: str
    inputs: str
    outputs: str
    runtime: Runtime
    dequantize: bool = True
    timeout_s: float = 600.0
    memory_mib: int = 0


@dataclass(frozen=True)
class Predicted:
    samples: int
    seconds: float


@dataclass(frozen=True)
class Measure:
    """Measure ``model``; answer: ``Measured``.

    It runs on the first sample of ``inputs``, an .npz as in ``Predict``; on random data without.
    Each of ``processes`` fresh children loads the model, warms up until stable (at least
    ``warmup_s``, at most ``warmup_max_s``), and then runs for at least ``runs``/``processes``
    inferences and ``seconds``/``processes``. ``idle_s`` of idle time is sampled before and after,
    only when a power meter is found. ``sample_hz`` 0: no sampler.
    """

    model: str
    inputs: str
    runtime: Runtime
    processes: int = 3
    runs: int = 200
    seconds: float = 10.0
    warmup_s: float = 0.5
    warmup_max_s: float = 10.0
    idle_s: float = 5.0
    sample_hz: float = 10.0
    timeout_s: float = 600.0
    memory_mib: int = 0


@dataclass(frozen=True)
class Placement:
    """How many of the model's nodes an execution provider ran."""

    provider: str
    nodes: int


@dataclass(frozen=True)
class ProcessRun:
    """One child. All times ``*_ns`` are the device's monotonic clock or durations by it.

    ``baseline_rss_bytes``: runtime imported, no model yet. ``peak_rss_bytes``: VmHWM at the end.
    Unknown is None. ``warmup_runs`` of ``runs`` latencies come first and are marked, not dropped.
    ``placements``: the execution providers that ran the model; empty where it was not looked at,
    which is so when none but the CPU was asked for. ``delegate``: the same in a word.
    """

    runs: int
    warmup_runs: int
    warmup_stable: bool
    load_ns: int
    first_ns: int
    baseline_rss_bytes: typing.Optional[int] = None
    peak_rss_bytes: typing.Optional[int] = None
    pss_bytes: typing.Optional[int] = None
    cpu_ns: typing.Optional[int] = None
    delegate: str = ""
    placements: typing.Tuple[Placement, ...] = ()


@dataclass(frozen=True)
class Channel:
    """One column of the sampler.

    ``quantity``: power_w, current_a, voltage_v, energy_j (cumulative, unwrapped), temperature_c,
    frequency_mhz.
    ``source``: driver and rail (``ina3221 VDD_IN``). ``coverage``: rail, module, board, battery or
    package. ``total``: the channel that stands for the whole of its source (children are never
    added to it).
    """

    quantity: str
    source: str
    coverage: str = ""
    total: bool = False


@dataclass(frozen=True)
class Span:
    """``phase``: idle_before, warmup, run or idle_after; ``process`` counts from 0, -1 for idle."""

    phase: str
    start_ns: int
    end_ns: int
    process: int = -1


@dataclass(frozen=True)
class Measured:
    """Raw samples; nothing is reckoned on the device.

    Payload: little-endian int64; for each process its ``runs`` start times, then its ``runs``
    latencies.
    ``samples``: rows (t_ns, value of each channel or None). ``throttle_before``/``after``: flags
    in words; sticky ones as
    ``occurred:…``; None where there is no way to know. ``cpu_*``: busy and total time of all cores
    over the run, ``cpu_child_s`` that of the measured children. ``clock_step_s``: wall against
    monotonic clock over the run.
    ``missing``: what was looked for and not found, {field: reason}.
    """

    payload_bytes: int
    processes: typing.Tuple[ProcessRun, ...]
    spans: typing.Tuple[Span, ...]
    channels: typing.Tuple[Channel, ...] = ()
    samples: typing.Tuple[typing.Tuple[typing.Optional[float], ...], ...] = ()
    throttle_before: typing.Optional[typing.Tuple[str, ...]] = None
    throttle_after: typing.Optional[typing.Tuple[str, ...]] = None
    cpu_busy_s: typing.Optional[float] = None
    cpu_total_s: typing.Optional[float] = None
    cpu_child_s: typing.Optional[float] = None
    contenders: typing.Tuple[str, ...] = ()
    clock_step_s: float = 0.0
    sampler_cpu_s: float = 0.0
    missing: typing.Dict[str, str] = dataclasses.field(default_factory=dict)


Message = typing.Union[
    Hello, Done, Failed, Progress, Bye, Lock, Put, PutState, Get, Data, Unpack, Exists, Existing,
    Probe, Probed, Stage, Staged, Seal, Commit, Discard, Rollback, ListReleases, Releases,
    ReleaseList, Predict, Predicted, Measure, Measured,
]  # fmt: skip
_KINDS = {kind.__name__: kind for kind in typing.get_args(Message)}


def encode(message: Message) -> bytes:
    """One line, newline included; a payload is the caller's to send."""
    fields = dataclasses.asdict(message)
    text = json.dumps({"type": type(message).__name__, **fields}, separators=(",", ": "))
    return text.encode() + b"\n"


def decode(line: bytes) -> Message:
    """Read one line.

    Raises:
        WireError: it is not a message, or a field is missing or of a wrong type.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {line[:80]!r}") from error
    name = fields.pop("type", None) if isinstance(fields, dict) else None
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError(f"not a message: {line[:80]!r}")
    return typing.cast("Message", _build(kind, fields))


class Decoder:
    """Bytes in, in any pieces; messages and payload pieces out, in order.

    ``feed`` yields messages, and ``bytes`` for the payload of the message before; payload pieces
    come as they arrive. Until the first message, lines that are none are skipped (login banners, a
    noisy .bashrc).
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._payload_left = 0
        self._started = False
        self.skipped = b""

    def feed(self, data: bytes) -> typing.Iterator[typing.Union[Message, bytes]]:
        self._buffer += data
        while self._buffer:
            if self._payload_left:
                piece = bytes(self._buffer[: self._payload_left])
                del self._buffer[: len(piece)]
                self._payload_left -= len(piece)
                yield piece
                continue
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > MAX_LINE_BYTES:
                    raise WireError(f"a line over {MAX_LINE_BYTES} bytes")
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if not self._started:
                noise, mark, rest = line.partition(PREFIX)  # noise may lack its line's end
                self.skipped = (self.skipped + noise + (b"" if mark else b"\n"))[-4096:]
                if not mark:
                    continue
                line = mark + rest
            self._started = True
            message = decode(line)
            self._payload_left = getattr(message, "payload_bytes", 0)
            yield message


def _build(kind: typing.Any, value: typing.Any) -> typing.Any:
    """Make a dataclass from a dict, a tuple from a list, by the type hints."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        return None if value is None else _build(args[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_build(args[0], item) for item in value)
    if origin is dict and isinstance(value, dict):
        return {str(key): _build(args[1], item) for key, item in value.items()}
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is kind:
        return value
    raise WireError(f"expected {kind}, got {str(value)[:80]!r}")


def _build_dataclass(kind: typing.Any, value: typing.Any) -> typing.Any:
    if not isinstance(value, dict):
        raise WireError(f"{kind.__name__}: not an object")
    hints = typing.get_type_hints(kind)
    known = {name: _build(hints[name], item) for name, item in value.items() if name in hints}
    try:
        return kind(**known)
    except TypeError as error:
        raise WireError(f"{kind.__name__}: {error}") from error
