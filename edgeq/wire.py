"""What host and agent say to each other: one JSON object a line, at times raw bytes behind it.

The host sends one request at a time; the agent answers with any number of ``Progress`` and then
with one reply, ``Failed`` if it could not. While the host waits it sends an empty line now and
then, so that the agent knows of a link that died. A message whose ``payload_bytes`` is positive is
followed by exactly that many raw bytes. The first message is the agent's ``Hello``; what a login
shell prints before it is skipped.

The wire only grows: an unknown field is dropped, a new field has a default, a changed meaning is a
new ``PROTOCOL``. Durations are integer nanoseconds of the device's monotonic clock. This file runs
on the
device too: standard library, Python 3.8.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
import typing

PROTOCOL = 1
MAX_LINE_BYTES = 64 << 20
PREFIX = b'{"type": "'
HEARTBEAT = b"\n"
SILENT_STATUS = 75  # the agent's exit status when it has not heard of its host for too long


class WireError(Exception):
    """The other side sent what is not a message."""


_LAZY: typing.Set[type] = set()
_READY: typing.Set[type] = set()
_MAKING = threading.Lock()

if typing.TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool) -> typing.Callable[[type], type]:
        """``dataclasses.dataclass`` once the class is used: all at once take a device a second."""
        assert frozen  # noqa: S101 - messages are

        def mark(kind: type) -> type:
            def new(cls: type, *_values: object, **_fields: object) -> object:
                _ready(cls)
                return object.__new__(cls)

            _LAZY.add(kind)
            kind.__new__ = new
            return kind

        return mark


def _ready(kind: typing.Any) -> None:
    if kind in _READY:
        return
    with _MAKING:
        if kind not in _READY:
            dataclasses.dataclass(frozen=True)(kind)
            _READY.add(kind)


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

    ``kind`` is one of: busy, space, hash, missing, refused, io, crash, hang, memory, killed,
    runtime, model, internal, wish. ``killed`` is a child, by someone else than the kernel.
    ``detail`` holds the last lines of a child's error output, or a signal's name; of a ``wish``
    that this device cannot grant (CPUs, a frequency), the mend.
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
    """``providers``: those that this build of ONNX Runtime has; whether they work shows later.

    ``kind``: where its process failed, how, as in ``Failed``.
    """

    ok: bool
    name: str = ""
    version: str = ""
    numpy_version: str = ""
    detail: str = ""
    providers: typing.Tuple[str, ...] = ()
    kind: str = ""


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
class Ahead:
    """Start so many model processes now, which import ``runtime`` side by side; ``Done`` at once.

    The ``Predict`` and ``Measure`` that follow with this runtime (and these CPUs) take them, each
    one request's. They are fewer, or none, where memory is short. What is not used ends with the
    session.
    """

    runtime: Runtime
    processes: int
    cpus: typing.Tuple[int, ...] = ()


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
    only when a power meter is found, or ``idle_always``. ``sample_hz`` 0: no sampler.

    Before each process the device cools down to ``cool_to_c``, if given, for ``cool_limit_s`` in
    all; then it is measured as it is. ``cpus``: the only ones the children may use; none: all.
    ``pin_mhz`` holds the frequency there (0: the highest that is allowed); None changes nothing.
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
    cool_to_c: typing.Optional[float] = None
    cool_limit_s: float = 300.0
    cpus: typing.Tuple[int, ...] = ()
    pin_mhz: typing.Optional[float] = None
    idle_always: bool = False


@dataclass(frozen=True)
class Wish:
    """Could a ``Measure`` have these CPUs and this clock? ``Done``; else ``Failed``, kind wish."""

    cpus: typing.Tuple[int, ...] = ()
    pin_mhz: typing.Optional[float] = None


@dataclass(frozen=True)
class Clock:
    """What do your clocks say? Answered at once by ``ClockRead``."""


@dataclass(frozen=True)
class ClockRead:
    """The device's monotonic clock, and its wall clock since 1970."""

    monotonic_ns: int
    wall_ns: int


@dataclass(frozen=True)
class HostMeter:
    """A meter of the host's own; the host adds it to what the device measured.

    ``reason``: why none of its readings can be used. ``offset_s``: the device's wall clock less the
    host's, ``uncertainty_s``: half of the shortest round trip, ``drift_ppm``: how much faster the
    device's clock ran over the run; its readings were moved accordingly.
    """

    source: str
    coverage: str = "wall"
    reason: str = ""
    offset_s: typing.Optional[float] = None
    uncertainty_s: typing.Optional[float] = None
    drift_ppm: typing.Optional[float] = None


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
    package; wall for a meter of the host's. ``total``: the channel that stands for the whole of
    its source (children are never added to it). ``shunt_ohm``: of the monitor's shunt, if known.
    """

    quantity: str
    source: str
    coverage: str = ""
    total: bool = False
    shunt_ohm: typing.Optional[float] = None


@dataclass(frozen=True)
class Span:
    """``phase``: idle_before, warmup, run or idle_after; ``process`` counts from 0, -1 for idle."""

    phase: str
    start_ns: int
    end_ns: int
    process: int = -1


@dataclass(frozen=True)
class Cooled:
    """How cooling down to ``target_c`` went, over all processes.

    ``worst_c``: the warmest that one of them began at; None without a sensor. ``reached``: all
    began at the target or below.
    """

    target_c: float
    reached: bool
    waited_s: float = 0.0
    worst_c: typing.Optional[float] = None


@dataclass(frozen=True)
class Policy:
    """A group of CPUs with one clock, as it was while the model ran.

    ``min_mhz`` and ``max_mhz`` are the limits that were set, ``hardware_*`` those of the chip,
    ``base_mhz`` what an x86 holds without boost. ``core``: implementer and part of an ARM core
    (``0x41/0xd08``), or a word. ``pinned``: edgeq held it at one frequency.
    """

    name: str
    cpus: typing.Tuple[int, ...] = ()
    governor: str = ""
    driver: str = ""
    core: str = ""
    min_mhz: typing.Optional[float] = None
    max_mhz: typing.Optional[float] = None
    hardware_min_mhz: typing.Optional[float] = None
    hardware_max_mhz: typing.Optional[float] = None
    base_mhz: typing.Optional[float] = None
    pinned: bool = False


@dataclass(frozen=True)
class Contention:
    """What else the machine did while the children ran. Unknown is None.

    ``busy_s`` and ``total_s`` are of the CPUs that the children could use, ``stolen_s`` what a
    hypervisor gave to other machines of these, ``stalled_s`` the time that programs waited for
    memory (PSI, some), ``swapped_bytes`` in and out. ``names`` and ``shares``: the busiest other
    programs, and what each took of one core.
    """

    seconds: float
    busy_s: typing.Optional[float] = None
    total_s: typing.Optional[float] = None
    stolen_s: typing.Optional[float] = None
    stalled_s: typing.Optional[float] = None
    swapped_bytes: typing.Optional[int] = None
    names: typing.Tuple[str, ...] = ()
    shares: typing.Tuple[float, ...] = ()


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
    ``cpus``: those that the children were held to; none: all. ``cores``: of which kinds those they
    could use are, as in ``Policy``. ``notes``: sentences for the user.
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
    meter: typing.Optional[HostMeter] = None
    cooled: typing.Optional[Cooled] = None
    policies: typing.Tuple[Policy, ...] = ()
    contention: typing.Optional[Contention] = None
    cpus: typing.Tuple[int, ...] = ()
    cores: typing.Tuple[str, ...] = ()
    notes: typing.Tuple[str, ...] = ()


Message = typing.Union[
    Hello, Done, Failed, Progress, Bye, Lock, Put, PutState, Get, Data, Unpack, Exists, Existing,
    Probe, Probed, Stage, Staged, Seal, Commit, Discard, Rollback, ListReleases, Releases,
    ReleaseList, Ahead, Predict, Predicted, Measure, Measured,
    Clock, ClockRead, Wish,
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
            if not line:
                continue
            message = decode(line)
            self._payload_left = getattr(message, "payload_bytes", 0)
            yield message


def _build(kind: typing.Any, value: typing.Any) -> typing.Any:
    """Make a dataclass from a dict, a tuple from a list, by the type hints."""
    if isinstance(kind, type) and kind in _LAZY:
        return _build_message(kind, value)
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


def _build_message(kind: typing.Any, value: typing.Any) -> typing.Any:
    if not isinstance(value, dict):
        raise WireError(f"{kind.__name__}: not an object")
    hints = _hints(kind)
    known = {name: _build(hints[name], item) for name, item in value.items() if name in hints}
    try:
        return kind(**known)
    except TypeError as error:
        raise WireError(f"{kind.__name__}: {error}") from error


@functools.lru_cache(maxsize=None)
def _hints(kind: typing.Any) -> typing.Dict[str, typing.Any]:
    return typing.get_type_hints(kind)
