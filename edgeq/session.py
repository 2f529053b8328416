"""The host's half of the talk with an agent: put, install, run, measure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edgeq import arrays, sending, wire
from edgeq.boot import boot_argv
from edgeq.conversation import Conversation, silent
from edgeq.core import raw
from edgeq.core.machine import Facts
from edgeq.errors import AgentError, LinkLostError
from edgeq.ports import Array, Floats, Link, OnProgress, Predict

MAX_GET_BYTES = 1 << 30
MAX_RAW_BYTES = 1 << 30
# The slowest disk and link that are still worth waiting for.
_SLOWEST_BYTES_PER_S = 100_000
_GRACE_S = 60.0
# One name, so that a data set that comes in pieces never fills the device's disk.
_PREDICT_INPUTS = "scratch/inputs.npz"
_RUN_BYTES = 16  # a start and a latency
_UNSURE = (
    "start again: it may have switched just before, but what is active there is whole either way"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Checked samples and the bytes they came in, which ``core.raw.pack`` makes fit to store."""

    raw: raw.Raw
    payload: bytes


class Session:
    """An agent that answers. Not to be used from several threads at once.

    Attributes:
        hello: Its first words.
        agent_bytes_sent: 0 when the agent was there already.
    """

    def __init__(self, talk: Conversation, hello: wire.Hello, agent_bytes_sent: int = 0) -> None:
        self._talk = talk
        self.hello = hello
        self.agent_bytes_sent = agent_bytes_sent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._talk.close()

    def lock(self, holder: str) -> None:
        """Take the device for this session.

        Raises:
            BusyError: someone else has it.
        """
        self._talk.ask(wire.Lock(holder=holder), wire.Done)

    def exists(self, paths: Sequence[str]) -> frozenset[str]:
        """Those of the paths under the agent's folder that are there."""
        found = self._talk.ask(wire.Exists(tuple(paths)), wire.Existing).paths
        return frozenset(found) & frozenset(paths)

    def put(
        self, path: str, data: Path | bytes, sha256: str, on_progress: OnProgress = silent
    ) -> int:
        """Put a file under the agent's folder, going on where an earlier try broke off.

        Returns:
            Bytes sent; 0 if it was there.

        Raises:
            SpaceError: the device's disk is full.
            DeviceError: it arrived damaged, or cannot be written.
            LinkLostError: the connection broke; what arrived is kept for the next try.
            HostError: it cannot be read here, or changed meanwhile.
        """
        size_bytes = sending.size(data)
        # The device may have to hash what it has before it answers.
        limit_s = _GRACE_S + size_bytes / _SLOWEST_BYTES_PER_S
        state = self._talk.ask(
            wire.Put(path=path, size_bytes=size_bytes, sha256=sha256),
            wire.PutState,
            silence_s=limit_s,
        )
        if state.complete:
            return 0
        if not 0 <= state.have_bytes <= size_bytes:
            self._talk.fail(f"it has {state.have_bytes} of {size_bytes} bytes")
        offset = state.have_bytes
        if offset and sending.prefix_sha256(data, offset) != state.prefix_sha256:
            offset = 0
        header = wire.Data(payload_bytes=size_bytes - offset, offset_bytes=offset)
        self._talk.send(wire.encode(header))
        self._talk.send_all(sending.pieces(data, offset, size_bytes, on_progress))
        self._talk.reply(wire.Done, silence_s=limit_s, on_progress=on_progress)
        return size_bytes - offset

    def get(self, path: str, most_bytes: int = MAX_GET_BYTES) -> bytes:
        """A file's bytes.

        Raises:
            DeviceError: it is not there.
            AgentError: it is larger than ``most_bytes``.
        """
        header = self._talk.ask(wire.Get(path), wire.Data)
        if not 0 <= header.payload_bytes <= most_bytes:
            self._talk.fail(f"{path} has {header.payload_bytes} bytes")
        return self._payload(header.payload_bytes)

    def unpack(self, path: str, into: str, on_progress: OnProgress = silent) -> None:
        """Unpack a zip that was put, then delete it; all of it is there afterwards or nothing.

        Raises:
            SpaceError: the device's disk is full.
        """
        self._talk.ask(
            wire.Unpack(path=path, into=into), wire.Done, silence_s=600.0, on_progress=on_progress
        )

    def probe(self, runtime: wire.Runtime) -> wire.Probed:
        """Whether a runtime imports and runs there."""
        return self._talk.ask(wire.Probe(runtime), wire.Probed, silence_s=180.0)

    def start_ahead(self, runtime: wire.Runtime, processes: int, cpus: tuple[int, ...]) -> None:
        """Let processes import a runtime while other work is done; see ``wire.Ahead``."""
        self._talk.ask(wire.Ahead(runtime=runtime, processes=processes, cpus=cpus), wire.Done)

    def install(
        self,
        model: str,
        release: str,
        files: Mapping[str, bytes],
        on_progress: OnProgress = silent,
    ) -> int:
        """Make a release that is whole but not active; what the device has is not sent.

        Returns:
            Bytes sent.

        Raises:
            SpaceError: the device's disk is full.
            LinkLostError: the connection broke; the next ``install`` goes on from there.
        """
        listed = tuple(
            wire.File(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
            for name, data in sorted(files.items())
        )
        limit_s = _GRACE_S + sum(map(len, files.values())) / _SLOWEST_BYTES_PER_S
        staged = self._talk.ask(
            wire.Stage(model=model, release=release, files=listed), wire.Staged, silence_s=limit_s
        )
        if staged.exists:
            return 0
        if not set(staged.missing) <= set(files):
            self._talk.fail("it misses files that are not of the release")
        sent_bytes = 0
        for file in listed:
            if file.name in staged.missing:
                path = f"{staged.folder}/{file.name}"
                sent_bytes += self.put(path, files[file.name], file.sha256, on_progress)
        seal = wire.Seal(model=model, release=release, folder=staged.folder, files=listed)
        self._talk.ask(seal, wire.Done, silence_s=limit_s, on_progress=on_progress)
        return sent_bytes

    def commit(self, model: str, release: str) -> wire.Releases:
        """Make a release the active one."""
        return self._switch(wire.Commit(model=model, release=release))

    def discard(self, model: str, release: str, reason: str) -> wire.Releases:
        """Take a release back that failed; see ``wire.Discard``."""
        return self._switch(wire.Discard(model=model, release=release, reason=reason))

    def rollback(self, model: str) -> wire.Releases:
        """Make the release before the active one active again.

        Raises:
            DeviceError: there is none.
        """
        return self._switch(wire.Rollback(model=model))

    def releases(self, model: str = "") -> tuple[wire.Releases, ...]:
        """What is installed, of one model or of all."""
        return self._talk.ask(wire.ListReleases(model=model), wire.ReleaseList).models

    def predict(
        self,
        request: wire.Predict,
        inputs: Sequence[Array],
        on_progress: OnProgress = silent,
    ) -> list[Array]:
        """Outputs for inputs; ``request`` needs no paths but the model's.

        Args:
            request: How; its ``inputs`` and ``outputs`` are filled in.
            inputs: One array per input of the model, of shape (samples, …).
            on_progress: Hears of samples.

        Raises:
            TrialError: the model crashed, hung or took too much memory.
            ModelError: the runtime refuses it.
            AgentError: the answer is not outputs for these inputs.
        """
        packed = arrays.pack(inputs)
        digest = hashlib.sha256(packed).hexdigest()
        source = _PREDICT_INPUTS
        self.put(source, packed, digest)
        there = replace(request, inputs=source)
        return self.replay(there, len(inputs[0]), on_progress)

    def replay(
        self, request: wire.Predict, samples: int, on_progress: OnProgress = silent
    ) -> list[Array]:
        """Outputs for ``request.inputs``, a file there of so many samples; else as ``predict``."""
        target = f"scratch/{hashlib.sha256(request.inputs.encode()).hexdigest()[:32]}-outputs.npz"
        self._talk.ask(
            replace(request, outputs=target),
            wire.Predicted,
            silence_s=request.timeout_s + _GRACE_S,
            on_progress=on_progress,
        )
        return arrays.unpack(self.get(target), samples, self._talk.fail)

    def wish(self, cpus: tuple[int, ...], pin_mhz: float | None) -> None:
        """Ask before any work is done whether a run can have these CPUs and this clock.

        Raises:
            DeviceError: it cannot; with what it can have.
        """
        self._talk.ask(wire.Wish(cpus=cpus, pin_mhz=pin_mhz), wire.Done)

    def clock(self) -> wire.ClockRead:
        """What the device's clocks say now; the answer comes as fast as the link allows."""
        return self._talk.ask(wire.Clock(), wire.ClockRead)

    def measure(self, request: wire.Measure, on_progress: OnProgress = silent) -> Measurement:
        """Measure; the samples are checked.

        Raises:
            TrialError: the model crashed, hung or took too much memory.
            AgentError: the figures cannot be true.
        """
        silence_s = request.timeout_s + request.idle_s + _GRACE_S
        measured = self._talk.ask(
            request, wire.Measured, silence_s=silence_s, on_progress=on_progress
        )
        runs = [process.runs for process in measured.processes]
        expected_bytes = _RUN_BYTES * sum(runs)
        if min(runs, default=0) < 1 or expected_bytes > MAX_RAW_BYTES:
            self._talk.fail(f"it counts {runs[:8]} runs")
        if measured.payload_bytes != expected_bytes or len(runs) != request.processes:
            self._talk.fail(f"{measured.payload_bytes} bytes for {len(runs)} processes")
        payload = self._payload(measured.payload_bytes)
        return Measurement(raw=raw.read(measured, payload), payload=payload)

    def _switch(self, request: wire.Message) -> wire.Releases:
        try:
            return self._talk.ask(request, wire.Releases)
        except (LinkLostError, AgentError) as error:
            raise type(error)(error.message, hint=_UNSURE) from error

    def _payload(self, size_bytes: int) -> bytes:
        data = bytearray()
        self._talk.payload(size_bytes, data.extend)
        return bytes(data)


def open_session(
    link: Link,
    facts: Facts,
    *,
    python: str,
    agent: bytes,
    where: str,
) -> Session:
    """Start the agent, which is sent if the device has not this very one.

    Args:
        link: The open connection.
        facts: What the examination found.
        python: The device's Python, absolute.
        agent: The agent's archive.
        where: The device, as the user calls it.

    Raises:
        AgentError: it does not start.
        SpaceError: the device's disk is full.
        LinkLostError: the connection broke.
    """
    digest = hashlib.sha256(agent).hexdigest()
    path = f"{facts.root}/agents/{digest}.pyz"
    if digest in facts.agents:
        try:
            return _greet(link, [python, "-B", path, "serve"], where, b"")
        except AgentError:
            pass  # the file is damaged: a device may lose power at any time
    return _greet(link, boot_argv(python, path, digest, len(agent)), where, agent)


def predictor(
    session: Session, runtime: wire.Runtime, *, timeout_s: float = 600.0, memory_mib: int = 0
) -> Predict:
    """``ports.Predict`` through an agent; the model is put into the session's scratch folder."""

    def predict(model: Path, inputs: Sequence[Array]) -> list[Floats]:
        digest = sending.prefix_sha256(model, sending.size(model))
        path = f"scratch/{digest[:32]}{model.suffix}"
        session.put(path, model, digest)
        request = wire.Predict(
            model=path,
            inputs="",
            outputs="",
            runtime=runtime,
            timeout_s=timeout_s,
            memory_mib=memory_mib,
        )
        return [output.astype(np.float32) for output in session.predict(request, inputs)]

    return predict


def _greet(link: Link, argv: Sequence[str], where: str, first: bytes) -> Session:
    talk = Conversation(link.open(argv), where)
    try:
        if first:
            talk.send(first)
        return Session(talk, talk.greet(), len(first))
    except BaseException:
        talk.close()
        raise
