"""The agent's end of the wire: requests in, replies and payloads out, over two file descriptors."""

from __future__ import annotations

import fcntl
import os
import select
import time

from edgeq import wire
from edgeq.agent.ports import HostGoneError, HostSilentError

IDLE_LIMIT_S = 120.0  # a host asks on at once; it fetches a runtime in between at most
# A host that waits for an answer is heard every 5 s; else the link is dead, whatever TCP says.
SILENCE_LIMIT_S = 25.0
STALL_LIMIT_S = 25.0  # the same for a payload that stands still
PIECE_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python names it from 3.10 on
_LINE_READ_BYTES = 1 << 16
_RDHUP = getattr(select, "POLLRDHUP", 0)


class Talk:
    """One session's stream. ``payload_left``: bytes of the last message that were not read yet."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._buffer = bytearray()
        self._heard_s = time.monotonic()
        self._stalled = False
        self.payload_left = 0
        for end in (source, sink):
            _widen(end)
        os.set_blocking(sink, False)

    def receive(self, limit_s: float | None = IDLE_LIMIT_S) -> wire.Message | None:
        """The next request; None when the host closed the stream or said nothing for so long.

        Raises:
            WireError: it is not a message; what follows cannot be understood either.
        """
        while True:
            end = self._buffer.find(b"\n")
            if end > 0:
                break
            if end == 0:
                del self._buffer[:1]  # a sign of life
                continue
            if len(self._buffer) > wire.MAX_LINE_BYTES:
                raise wire.WireError(f"a line over {wire.MAX_LINE_BYTES} bytes")
            if not select.select([self._source], [], [], limit_s)[0]:
                return None
            chunk = os.read(self._source, _LINE_READ_BYTES)
            if not chunk:
                return None
            self._buffer += chunk
        self._heard_s = time.monotonic()
        message = wire.decode(bytes(self._buffer[:end]))
        del self._buffer[: end + 1]
        self.payload_left = getattr(message, "payload_bytes", 0)
        if self.payload_left < 0:
            raise wire.WireError(f"a payload of {self.payload_left} bytes")
        return message

    def read_into(self, piece: memoryview) -> int:
        """Fill ``piece`` from the payload as far as it goes; the number of bytes, at the end 0.

        Fewer bytes than asked for mean that the payload ended, or that the host went away: the next
        call tells.

        Raises:
            HostGoneError: nothing could be read any more.
        """
        wanted = min(len(piece), self.payload_left)
        filled = min(wanted, len(self._buffer))
        if filled:
            piece[:filled] = self._buffer[:filled]
            del self._buffer[:filled]
        while filled < wanted and not self._stalled:
            if not select.select([self._source], [], [], STALL_LIMIT_S)[0]:
                self._stalled = True
                break
            count = os.readv(self._source, [piece[filled:wanted]])
            if not count:
                break
            filled += count
        if wanted and not filled:
            raise HostSilentError if self._stalled else HostGoneError
        self._heard_s = time.monotonic()
        self.payload_left -= filled
        return filled

    def discard(self) -> None:
        """Read what is left of the payload and throw it away.

        Raises:
            HostGoneError: the host went away first.
        """
        waste = memoryview(bytearray(min(PIECE_BYTES, self.payload_left)))
        while self.payload_left:
            self.read_into(waste)

    def send(self, message: wire.Message, payload: bytes = b"") -> None:
        """Send a message, with its payload where it has one.

        Raises:
            HostGoneError: nobody reads any more.
        """
        self._write(wire.encode(message))
        self._write(payload)

    def send_sign_of_life(self) -> None:
        """Send what the other side need not answer.

        Raises:
            HostGoneError: nobody reads any more.
        """
        self._write(wire.HEARTBEAT)

    def send_file(self, source: int, size_bytes: int) -> None:
        """Send ``Data`` and the file's bytes.

        Raises:
            HostGoneError: nobody reads any more, or the file shrank: the stream is broken either
            way.
        """
        self.send(wire.Data(payload_bytes=size_bytes))
        sent = 0
        while sent < size_bytes:
            try:
                count = os.sendfile(self._sink, source, sent, size_bytes - sent)
            except BlockingIOError:
                self._wait_for_room()
                continue
            except OSError as error:
                raise HostGoneError from error
            if not count:
                raise HostGoneError
            sent += count

    def watch(self, poller: select.poll) -> None:
        """Let a poller wake up when the host hangs up or is heard; see ``is_hang_up``."""
        poller.register(self._source, select.POLLIN | _RDHUP)

    def is_hang_up(self, descriptor: int, event: int) -> bool:
        """Whether an event says that the host is gone; what it says otherwise is kept."""
        if descriptor != self._source:
            return False
        if event & (_RDHUP | select.POLLHUP | select.POLLERR):
            return True
        chunk = os.read(self._source, _LINE_READ_BYTES)
        self._buffer += chunk
        self._heard_s = time.monotonic()
        return not chunk

    def require_host(self) -> None:
        """Call it after a poller's events were looked at.

        Raises:
            HostGoneError: nothing was heard of the host for too long.
        """
        if time.monotonic() - self._heard_s > SILENCE_LIMIT_S:
            raise HostSilentError

    def wait(self, seconds: float) -> None:
        """Sleep, unless the host goes.

        Raises:
            HostGoneError: it did.
        """
        poller = select.poll()
        self.watch(poller)
        end_s = time.monotonic() + seconds
        left_s = seconds
        while left_s > 0:
            events: list[tuple[int, int]] = poller.poll(min(left_s, 1.0) * 1000.0)
            if any(self.is_hang_up(*event) for event in events):
                raise HostGoneError
            self.require_host()
            left_s = end_s - time.monotonic()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._sink, view) :]
            except BlockingIOError:
                self._wait_for_room()
            except (BrokenPipeError, ConnectionResetError) as error:
                raise HostGoneError from error

    def _wait_for_room(self) -> None:
        if not select.select([], [self._sink], [], STALL_LIMIT_S)[1]:
            raise HostSilentError


def _widen(descriptor: int) -> None:
    """Give a pipe 1 MiB instead of 64 KiB; sockets and old kernels stay as they are."""
    try:
        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return
