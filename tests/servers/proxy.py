"""A TCP proxy on loopback that treats the connection badly after so many bytes to the server."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_PIECE_BYTES = 1 << 16
_ACCEPT_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a connection.

    Attributes:
        kind: ``cut`` closes it, ``stall`` forwards nothing more in either direction, ``pause``
            does so for a while, ``throttle`` makes it slow.
        after_bytes: Sent by the client before it happens; counted over the first connection only,
            so that the next try gets through.
        bytes_per_s: For ``throttle``.
        pause_s: For ``pause``.
    """

    kind: Literal["none", "cut", "stall", "pause", "throttle"] = "none"
    after_bytes: int = 0
    bytes_per_s: int = 1 << 20
    pause_s: float = 0.0


class Proxy:
    """Running; ``port`` is where clients connect, ``sent_bytes`` what each connection's sent.

    ``back_at_s``: when a pause ends, by the monotonic clock; 0 before there is one.
    """

    def __init__(self, target_port: int, fault: Fault) -> None:
        self._target_port = target_port
        self._fault = fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_ACCEPT_POLL_S)
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port: int = self._listener.getsockname()[1]
        self.sent_bytes: list[int] = []
        self.back_at_s = 0.0

    def start(self) -> None:
        self._threads[0].start()

    def stop(self) -> None:
        self._over.set()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            client.settimeout(None)
            server = socket.create_connection(("127.0.0.1", self._target_port))
            number = len(self.sent_bytes)
            self.sent_bytes.append(0)
            self._sockets += [client, server]
            fault = self._fault if number == 0 else Fault()
            stalled = threading.Event()
            for source, sink, up in ((client, server, True), (server, client, False)):
                arguments = (source, sink, fault, stalled, number if up else None)
                thread = threading.Thread(target=self._pump, args=arguments, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        fault: Fault,
        stalled: threading.Event,
        number: int | None,
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                if number is not None:
                    self.sent_bytes[number] += len(piece)
                    if self._strikes(fault, self.sent_bytes[number]) and not stalled.is_set():
                        self.back_at_s = time.monotonic() + fault.pause_s
                        stalled.set()
                if stalled.is_set() and not self._goes_on(fault):
                    break
                if fault.kind == "throttle" and number is not None:
                    time.sleep(len(piece) / fault.bytes_per_s)
                sink.sendall(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _goes_on(self, fault: Fault) -> bool:
        """Whether a connection that was struck may forward again, once it is time."""
        if fault.kind == "stall":
            self._over.wait()
        if fault.kind == "pause":
            self._over.wait(max(0.0, self.back_at_s - time.monotonic()))
        return fault.kind == "pause"

    @staticmethod
    def _strikes(fault: Fault, sent_bytes: int) -> bool:
        return fault.kind in ("cut", "stall", "pause") and sent_bytes > fault.after_bytes


@contextlib.contextmanager
def running(target_port: int, fault: Fault | None = None) -> Iterator[Proxy]:
    proxy = Proxy(target_port, fault or Fault())
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
