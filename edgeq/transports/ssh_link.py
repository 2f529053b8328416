"""An open SSH connection: commands to their end, and commands to talk with."""

import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeq.errors import DeviceError, LinkLostError
from edgeq.ports import Completed

if TYPE_CHECKING:
    from paramiko import Channel, Transport

MAX_OUTPUT_BYTES = 64 << 20
STDERR_TAIL_BYTES = 16 << 10
_READ_BYTES = 1 << 18
_SLICE_S = 0.5
_END_WAIT_S = 5.0
_OPEN_TIMEOUT_S = 30.0
_NOTICE_S = 1.0
_SESSION_PAUSES_S = (0.1, 0.3, 0.6, 1.0)


class SshLink:
    def __init__(
        self,
        transport: "Transport",
        address: str,
        stack: contextlib.ExitStack,
        stall_s: float,
    ) -> None:
        self._transport = transport
        self._address = address
        self._stack = stack
        self._stall_s = stall_s

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """See ``ports.Link``."""
        channel = self.open(argv)
        deadline = time.monotonic() + timeout_s
        output = bytearray()
        try:
            with contextlib.suppress(BrokenPipeError):  # it need not read all of its input
                channel.send(stdin)
            channel.end_input()
            while piece := channel.receive(max(0.0, deadline - time.monotonic())):
                output += piece
                if len(output) > MAX_OUTPUT_BYTES:
                    raise DeviceError(f"{self._address}: {argv[0]} printed too much")
        except TimeoutError as error:
            channel.abandon()
            raise DeviceError(
                f"{self._address}: {argv[0]} did not end within {timeout_s:g} s"
            ) from error
        done = channel.close()
        return Completed(status=done.status, stdout=bytes(output), stderr=done.stderr)

    def open(self, argv: Sequence[str]) -> "SshChannel":
        """See ``ports.Link``."""
        with _translated(self._transport, self._address):
            channel = self._open_session()
            channel.settimeout(_OPEN_TIMEOUT_S)
            channel.exec_command(shlex.join(argv))
        return SshChannel(self._transport, channel, self._address, self._stall_s)

    def _open_session(self) -> "Channel":
        """A server that allows one session only may not have seen yet that the last one is over."""
        from edgeq.transports.ssh_library import paramiko

        for pause_s in _SESSION_PAUSES_S:
            try:
                return self._transport.open_session(timeout=_OPEN_TIMEOUT_S)
            except paramiko.ChannelException:
                time.sleep(pause_s)
        return self._transport.open_session(timeout=_OPEN_TIMEOUT_S)

    def close(self) -> None:
        self._stack.close()


class SshChannel:
    """A running command. Its error output is kept up to a tail."""

    def __init__(
        self, transport: "Transport", channel: "Channel", address: str, stall_s: float
    ) -> None:
        self._transport = transport
        self._channel = channel
        self._address = address
        self._stall_s = stall_s
        self._stderr = b""
        self._done: Completed | None = None

    def send(self, data: bytes | memoryview) -> None:
        """See ``ports.Channel``."""
        view = memoryview(data)
        self._channel.settimeout(self._stall_s)
        try:
            with _translated(self._transport, self._address):
                while view:
                    # paramiko takes what fits one packet of the server's.
                    count = self._channel.send(view)  # type: ignore[arg-type]  # takes any buffer
                    if not count:
                        raise BrokenPipeError
                    view = view[count:]
        except TimeoutError as error:
            raise LinkLostError(
                f"{self._address} has taken no data for {self._stall_s:g} s",
                hint="is it frozen, or its disk? start again: it goes on where it broke off",
            ) from error

    def receive(self, timeout_s: float) -> bytes:
        """See ``ports.Channel``."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._drain_stderr()
            left = deadline - time.monotonic()
            self._channel.settimeout(max(0.0, min(left, _SLICE_S)))
            try:
                data = self._channel.recv(_READ_BYTES)
            except TimeoutError:
                if left <= _SLICE_S:
                    raise
                continue
            if not data and not self._transport.is_active():
                raise _lost(self._transport, self._address)
            return data

    def end_input(self) -> None:
        """The command reads the end of its input."""
        with contextlib.suppress(BrokenPipeError), _translated(self._transport, self._address):
            self._channel.shutdown_write()

    def close(self) -> Completed:
        """See ``ports.Channel``; a second time gives the same."""
        if self._done is None:
            self._done = self._close()
        return self._done

    def _close(self) -> Completed:
        deadline = time.monotonic() + _END_WAIT_S
        with contextlib.suppress(LinkLostError, TimeoutError):
            self.end_input()
            while self.receive(max(0.0, deadline - time.monotonic())):
                pass
            self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))
        self._drain_stderr()
        status = self._channel.exit_status if self._channel.exit_status_ready() else -1
        self.abandon()
        return Completed(status=status, stdout=b"", stderr=self._stderr)

    def abandon(self) -> None:
        """Let go of the command without waiting; its input and output end."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()

    def _drain_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            piece = self._channel.recv_stderr(_READ_BYTES)
            self._stderr = (self._stderr + piece)[-STDERR_TAIL_BYTES:]


@contextlib.contextmanager
def _translated(transport: "Transport", address: str) -> Iterator[None]:
    """Turn paramiko's errors into ours.

    A TimeoutError stays one; a command that ended is a BrokenPipeError.
    """
    from edgeq.transports.ssh_library import paramiko

    try:
        yield
    except TimeoutError:
        raise
    except (paramiko.SSHException, EOFError, OSError) as error:
        if isinstance(error, EOFError) or not _stands(transport):
            raise _lost(transport, address) from error
        if isinstance(error, OSError):
            raise BrokenPipeError from error
        if isinstance(error, paramiko.ChannelException):
            raise DeviceError(
                f"{address} allows no further session: {error.text}",
                hint="end what else uses it, or raise MaxSessions in its sshd_config",
            ) from error
        raise DeviceError(
            f"{address} does not start a command: {str(error) or type(error).__name__}",
            hint="does the account have a shell, and may it run commands?",
        ) from error


def _stands(transport: "Transport") -> bool:
    """Whether the connection is still there; paramiko's thread may need a moment to see its end."""
    deadline = time.monotonic() + _NOTICE_S
    while transport.is_active() and time.monotonic() < deadline:
        time.sleep(_NOTICE_S / 20)
    return transport.is_active()


def _lost(transport: "Transport", address: str) -> LinkLostError:
    reason = transport.get_exception()
    words = (isinstance(reason, OSError) and reason.strerror) or str(reason or "")
    why = f": {words[:1].lower()}{words[1:]}" if words else ""
    return LinkLostError(
        f"the connection to {address} broke{why}",
        hint="start again: a transfer goes on where it broke off; nothing there was switched",
    )
