"""Models run in child processes; here they are started, watched, limited and, if need be, killed.

A child speaks the wire on its standard output. It gets one request on its standard input, which
then stays open: its end tells the child that the agent is gone. Memory is limited by watching the
resident set 20 times a second, not by a resource limit: RLIMIT_AS and RLIMIT_DATA count what is
only reserved (thread stacks, arenas of malloc), which on a 64-bit system is many times what is
used.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import typing
from dataclasses import dataclass
from pathlib import Path

import edgeq
from edgeq import wire
from edgeq.agent.memory import oom_kills, resident_bytes
from edgeq.agent.ports import MIB, FailureError, HostGoneError
from edgeq.agent.talk import Talk

ARCHIVE = Path(edgeq.__file__).parents[1]
DETAIL_LINES = 20
_STDERR_KEPT_BYTES = 64 << 10
_READ_BYTES = 1 << 20
_MEMORY_POLL_S = 0.05
_LAST_WORDS_S = 1.0


@dataclass(frozen=True)
class Limits:
    """``timeout_s``: how long a child may be silent. ``memory_mib`` 0: no limit."""

    timeout_s: float
    memory_mib: int = 0


@dataclass(frozen=True)
class Answer:
    """A child's reply, its payload, and what it wrote to standard error."""

    message: wire.Message
    payload: bytes
    stderr: str


OnProgress = typing.Callable[[wire.Message], None]
if typing.TYPE_CHECKING:
    Process = subprocess.Popen[bytes]


def ask(
    request: wire.Message,
    *,
    root: Path,
    runtime: wire.Runtime,
    limits: Limits,
    talk: Talk,
    on_progress: OnProgress,
    process: Process | None = None,
) -> Answer:
    """Let a fresh child carry out a request; ``process`` if one was started before.

    Raises:
        FailureError: crash, hang, memory, internal, or what the child said.
        HostGoneError: the host went meanwhile; the child is dead.
    """
    if process is None:
        process = start(root, runtime, request.cpus if isinstance(request, wire.Measure) else ())
    child = _Child(process, limits, on_progress)
    try:
        tell(process, request)
        child.watch(talk)
        child.join()
    finally:
        kill(process)
    return child.answer()


def start(root: Path, runtime: wire.Runtime, cpus: tuple[int, ...] = ()) -> Process:
    """A child that waits to be told what to do; ``runtime``'s paths are absolute."""
    environment = dict(os.environ)
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(
        [*runtime.paths, *([inherited] if inherited else [])]
    )
    environment["OPENBLAS_NUM_THREADS"] = "1"  # numpy only packs arrays here; saves its buffers
    # From 1.29 on ONNX Runtime tells its maker about models: microsoft/onnxruntime/pull/27379
    environment["ORT_DISABLE_TELEMETRY"] = "1"
    process = subprocess.Popen(
        [sys.executable, "-B", str(ARCHIVE), "child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=str(root),
        start_new_session=True,
    )
    if cpus:
        from edgeq.agent import affinity  # here, since few need it and starting is slow

        # At once, so that all of its CPU time is theirs; it sees for itself whether that was done.
        with contextlib.suppress(OSError):
            affinity.place(process.pid, cpus)
    return process


def tell(process: Process, message: wire.Message) -> None:
    """Send a child a message; of one that died at once, watching it tells why."""
    assert process.stdin is not None  # noqa: S101  # as asked for in ``start``
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(wire.encode(message))
        process.stdin.flush()


def kill(process: Process) -> None:
    """End a child and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(BrokenPipeError):  # what could not be written to it
                pipe.close()


class _Child:
    """One running child."""

    def __init__(self, process: Process, limits: Limits, on_progress: OnProgress) -> None:
        self._process = process
        self._limits = limits
        self._on_progress = on_progress
        self._decoder = wire.Decoder()
        self._message: wire.Message | None = None
        self._payload = bytearray()
        self._stderr = bytearray()
        self._verdict: FailureError | None = None
        self._oom_kills = oom_kills()

    def watch(self, talk: Talk) -> None:
        """Read until it ends or breaks a limit."""
        poller = select.poll()
        talk.watch(poller)
        pipes = {
            pipe.fileno(): pipe for pipe in (self._process.stdout, self._process.stderr) if pipe
        }
        for descriptor in pipes:
            poller.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + self._limits.timeout_s
        while pipes and self._verdict is None:
            for descriptor, event in poller.poll(self._pause_s(deadline) * 1000):
                if talk.is_hang_up(descriptor, event):
                    raise HostGoneError
                if descriptor not in pipes:
                    continue
                if self._read(descriptor):
                    deadline = time.monotonic() + self._limits.timeout_s
                else:
                    poller.unregister(descriptor)
                    del pipes[descriptor]
            talk.require_host()
            self._check(deadline)

    def join(self) -> None:
        """Let it exit by itself, unless it broke a limit."""
        try:
            if self._verdict is None:
                self._process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            message = "the model's process closed its output and did not end"
            self._verdict = FailureError("hang", message, self._last_lines())

    def answer(self) -> Answer:
        """What came of it.

        Raises:
            FailureError: see ``ask``.
        """
        status = self._process.returncode
        if self._verdict is not None:
            raise self._verdict
        if isinstance(self._message, wire.Failed):
            failed = self._message
            raise FailureError(failed.kind, failed.message, failed.detail or self._last_lines())
        if self._message is not None:
            stderr = self._stderr.decode("utf-8", "replace")
            return Answer(self._message, bytes(self._payload), stderr)
        if status == -signal.SIGKILL:
            raise self._killed()
        if status < 0:
            name = _signal_name(-status)
            message = f"the model's process crashed with {name}"
            raise FailureError("crash", message, self._last_lines() or name)
        message = f"the model's process ended with status {status} and no answer"
        # Python's own status after an uncaught exception is 1: a bug here, not the model's.
        kind = "internal" if status == 1 else "crash"
        raise FailureError(kind, message, self._last_lines())

    def _killed(self) -> FailureError:
        """SIGKILL comes from the kernel when memory runs out, or from someone else."""
        now = oom_kills()
        if self._oom_kills is None or now is None:
            message = "the model's process was killed (SIGKILL), most likely for memory"
            return FailureError("memory", message, "SIGKILL")
        if now > self._oom_kills:
            return FailureError("memory", "the kernel killed the model's process for memory")
        message = "the model's process was killed (SIGKILL), by someone else than the kernel"
        return FailureError("killed", message, "SIGKILL")

    def _pause_s(self, deadline: float) -> float:
        rest_s = max(0.0, deadline - time.monotonic())
        return min(rest_s, _MEMORY_POLL_S if self._limits.memory_mib else 1.0)

    def _read(self, descriptor: int) -> bool:
        """Take what is there; False at the end of the pipe."""
        data = os.read(descriptor, _READ_BYTES)
        if self._process.stderr and descriptor == self._process.stderr.fileno():
            self._stderr += data
            if len(self._stderr) > 2 * _STDERR_KEPT_BYTES:
                del self._stderr[_STDERR_KEPT_BYTES:-_STDERR_KEPT_BYTES]
            return bool(data)
        for item in self._decoder.feed(data):
            if isinstance(item, bytes):
                self._payload += item
            elif isinstance(item, wire.Progress):
                self._on_progress(item)
            else:
                self._message = item
        return bool(data)

    def _check(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            message = f"the model's process gave no sign of life for {self._limits.timeout_s:g} s"
            self._verdict = FailureError("hang", message, self._last_lines())
        limit = self._limits.memory_mib
        if limit and resident_bytes(self._process.pid) > limit * MIB:
            message = f"the model's process took more than the {limit} MiB it may have"
            self._verdict = FailureError("memory", message, self._last_lines())

    def _last_lines(self) -> str:
        lines = self._stderr.decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-DETAIL_LINES:])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
