"""The TCP connection below SSH: fast to answer, and sure to notice that the other end is gone."""

import contextlib
import errno
import socket
import time
from typing import Protocol

from edgeq.errors import ConnectError
from edgeq.transports.ssh_route import Hop


class Stream(Protocol):
    """What carries SSH: a socket, or a channel through a jump host."""

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, timeout: float | None, /) -> None: ...
    def close(self) -> None: ...


def dial(hop: Hop, timeout_s: float) -> socket.socket:
    """Connect.

    Raises:
        ConnectError: no such host, nobody listens, nobody answers.
    """
    where = hop.address
    try:
        return socket.create_connection((hop.host, hop.port), timeout_s)
    except socket.gaierror as error:
        raise ConnectError(
            f"{where}: no machine of that name is known ({error.strerror})",
            hint=f"check the name, or use the address: ping {hop.host}",
        ) from error
    except UnicodeError as error:
        raise ConnectError(f"{where}: not a name that DNS can have") from error
    except ConnectionRefusedError as error:
        raise ConnectError(
            f"{where} refused the connection",
            hint=f"is its SSH server running, on this port? try: ssh -p {hop.port}"
            f" {hop.user}@{hop.host} true",
        ) from error
    except TimeoutError as error:
        raise ConnectError(
            f"{where} did not answer within {timeout_s:g} s",
            hint="is it switched on and in the same network?",
        ) from error
    except OSError as error:
        raise ConnectError(
            f"{where} cannot be reached: {error.strerror or error}",
            hint="is it switched on and in the same network?",
        ) from error


def tune(connection: socket.socket, dead_after_s: float) -> None:
    """Send small packets at once, and end a connection whose peer is gone.

    paramiko waits for ever on a dead link unless the kernel ends it: tcp(7), TCP_USER_TIMEOUT and
    the keep-alive options. Options that a system lacks are left out.
    """
    seconds = max(1, int(dead_after_s))
    wanted = (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(dead_after_s * 1000)),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", max(1, seconds // 3)),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, seconds // 3)),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2),
    )
    for level, name, value in wanted:
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(level, option, value)


class Wire:
    """A stream as paramiko wants it, which gives up when nothing can be sent for a while.

    Received data is acknowledged at once (TCP_QUICKACK, which the kernel takes back by itself, so
    it is set again and again): without it each round trip of the handshake waits up to 40 ms.
    """

    def __init__(self, stream: Stream, dead_after_s: float) -> None:
        self._stream = stream
        self._dead_after_s = dead_after_s
        self._stuck_since: float | None = None
        self._heard_s = time.monotonic()
        self._silent_after_s = 0.0
        self._quickack: int | None = getattr(socket, "TCP_QUICKACK", None)
        self._closed = False  # paramiko's Transport.stop_thread reads it, as on a socket
        if not isinstance(stream, socket.socket):
            self._quickack = None

    def send(self, data: bytes) -> int:
        try:
            count = self._stream.send(data)
        except TimeoutError:
            now = time.monotonic()
            if self._stuck_since is None:
                self._stuck_since = now
            if now - self._stuck_since > self._dead_after_s:
                raise ConnectionAbortedError from None
            raise
        self._stuck_since = None
        return count

    def expect(self, silent_after_s: float) -> None:
        """From now on the peer answers keep-alives: such a silence means that it is gone.

        A jump host, or whatever else acknowledges in a dead device's place, hides that from TCP.
        """
        self._heard_s = time.monotonic()
        self._silent_after_s = silent_after_s

    def recv(self, size: int) -> bytes:
        try:
            data = self._stream.recv(size)
        except TimeoutError:
            if 0 < self._silent_after_s < time.monotonic() - self._heard_s:
                words = f"it has been silent for {self._silent_after_s:g} s"
                raise ConnectionAbortedError(errno.ECONNABORTED, words) from None
            raise
        self._heard_s = time.monotonic()
        if self._quickack is not None and isinstance(self._stream, socket.socket):
            with contextlib.suppress(OSError):
                self._stream.setsockopt(socket.IPPROTO_TCP, self._quickack, 1)
        return data

    def settimeout(self, timeout: float | None) -> None:
        self._stream.settimeout(timeout)

    def close(self) -> None:
        self._closed = True
        if isinstance(self._stream, socket.socket):
            with contextlib.suppress(OSError):  # wakes the thread that waits in recv
                self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()
