"""This machine as a device: commands are child processes, without SSH."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeq.core.inventory import Device
from edgeq.errors import DeviceError, LinkLostError
from edgeq.ports import Completed

STDERR_TAIL_BYTES = 16 << 10
_READ_BYTES = 1 << 18
_END_WAIT_S = 5.0


def make(stall_s: float = 60.0) -> "LocalTransport":
    return LocalTransport(stall_s)


class LocalTransport:
    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s

    def connect(self, device: Device) -> "LocalLink":  # noqa: ARG002 - a Transport's signature
        return LocalLink(self._stall_s)


class LocalLink:
    """Child processes; ``environ`` is theirs, None: this process's."""

    def __init__(self, stall_s: float, environ: Mapping[str, str] | None = None) -> None:
        self._stall_s = stall_s
        self._environ = environ

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """See ``ports.Link``."""
        with _start(argv, self._environ) as child:
            try:
                stdout, stderr = child.communicate(stdin, timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                _kill(child)
                raise DeviceError(f"{argv[0]} did not end within {timeout_s:g} s") from error
        return Completed(status=child.returncode, stdout=stdout, stderr=stderr)

    def open(self, argv: Sequence[str]) -> "LocalChannel":
        """See ``ports.Link``."""
        return LocalChannel(_start(argv, self._environ), self._stall_s)

    def close(self) -> None:
        pass


class LocalChannel:
    """A running child. Its error output is kept up to a tail."""

    def __init__(self, child: subprocess.Popen[bytes], stall_s: float) -> None:
        assert child.stdin is not None  # noqa: S101 - made by _start, for the type checker
        assert child.stdout is not None  # noqa: S101
        assert child.stderr is not None  # noqa: S101
        self._child = child
        self._stall_s = stall_s
        self._stderr = b""
        self._done: Completed | None = None
        self._input, self._output, self._errors = child.stdin, child.stdout, child.stderr
        os.set_blocking(self._input.fileno(), False)
        self._drainer = threading.Thread(
            target=self._drain, args=(self._errors.fileno(),), daemon=True
        )
        self._drainer.start()

    def send(self, data: bytes | memoryview) -> None:
        """See ``ports.Channel``."""
        view = memoryview(data)
        descriptor = self._input.fileno()
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                if not select.select([], [descriptor], [], self._stall_s)[1]:
                    raise LinkLostError(
                        f"the agent has taken no data for {self._stall_s:g} s"
                    ) from None

    def receive(self, timeout_s: float) -> bytes:
        """See ``ports.Channel``."""
        descriptor = self._output.fileno()
        if not select.select([descriptor], [], [], max(0.0, timeout_s))[0]:
            raise TimeoutError
        return os.read(descriptor, _READ_BYTES)

    def close(self) -> Completed:
        """See ``ports.Channel``; a second time gives the same."""
        if self._done is None:
            self._done = self._close()
        return self._done

    def _close(self) -> Completed:
        deadline = time.monotonic() + _END_WAIT_S
        self._input.close()
        with contextlib.suppress(TimeoutError):
            while self.receive(deadline - time.monotonic()):
                pass
        try:
            self._child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill(self._child)
        self._drainer.join(_END_WAIT_S)
        self._output.close()
        if not self._drainer.is_alive():  # a grandchild may hold its other end
            self._errors.close()
        return Completed(status=self._child.returncode, stdout=b"", stderr=self._stderr)

    def _drain(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(descriptor, _READ_BYTES):
                self._stderr = (self._stderr + piece)[-STDERR_TAIL_BYTES:]


def _start(
    argv: Sequence[str], environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child in the home folder, as sshd does, and in a session of its own.

    So Ctrl-C in the terminal reaches edgeq alone, which then ends the child in its own time.
    """
    home = Path(os.environ.get("HOME") or "/")
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home if home.is_dir() else "/",
            env=environ,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot start {argv[0]}: {error}") from error


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
