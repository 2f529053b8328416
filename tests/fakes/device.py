"""A device in memory: a few commands, and an agent that says what a test wants."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from edgeq import wire
from edgeq.core.inventory import Device
from edgeq.errors import DeviceError, LinkLostError
from edgeq.ports import Completed

Answer = Callable[[wire.Message, bytes], Iterable[bytes | wire.Message | type[Exception]]]
"""A request and its payload to what the agent sends; an exception is what the reader gets."""

ROOT = "/home/fake/.edgeq"
HELLO = wire.Hello(protocol=wire.PROTOCOL, version="0.1.0", python="3.11.2", root=ROOT)


class FakeTransport:
    """Gives links to one device. ``answer`` is the agent's behaviour."""

    def __init__(self, answer: Answer | None = None, hello: wire.Message | bytes = HELLO) -> None:
        self.link = FakeLink(answer, hello)

    def connect(self, device: Device) -> "FakeLink":  # noqa: ARG002 - a Transport's signature
        return self.link


class FakeLink:
    """Knows the contract test's commands, and the agent. ``opened`` has all that was started."""

    def __init__(self, answer: Answer | None = None, hello: wire.Message | bytes = HELLO) -> None:
        self._answer = answer
        self._hello = hello
        self.opened: list[list[str]] = []

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        if argv[0] == "sleep":
            raise DeviceError(f"fake: sleep did not end within {timeout_s:g} s")
        channel = self.open(argv)
        with contextlib.suppress(BrokenPipeError):
            channel.send(stdin)
        channel.end_input()
        output = b"".join(iter(lambda: channel.receive(0), b""))
        done = channel.close()
        return Completed(status=done.status, stdout=output, stderr=done.stderr)

    def open(self, argv: Sequence[str]) -> "FakeChannel":
        self.opened.append(list(argv))
        if self._answer is not None:
            return AgentChannel(self._answer, self._hello)
        return CommandChannel(argv)

    def close(self) -> None:
        pass


class FakeChannel:
    """What both kinds share: an output that is read piece by piece."""

    def __init__(self) -> None:
        self.output: deque[bytes | type[Exception]] = deque()
        self.status = 0
        self.stderr = b""
        self.over = False
        self.closed = False

    def send(self, data: bytes | memoryview) -> None:
        raise NotImplementedError

    def receive(self, timeout_s: float) -> bytes:  # noqa: ARG002 - a Channel's signature
        if not self.output:
            if self.over:
                return b""
            raise TimeoutError
        piece = self.output.popleft()
        if isinstance(piece, bytes):
            return piece
        if piece is EOFError:
            self.over = True
            return b""
        raise piece("fake: as the test wants")

    def end_input(self) -> None:
        self.over = True

    def close(self) -> Completed:
        self.closed = True
        return Completed(status=self.status, stdout=b"", stderr=self.stderr)


class CommandChannel(FakeChannel):
    """``printf``, ``cat``, ``true``, ``sleep``, and ``sh`` with the contract test's script."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__()
        self._echo = argv[0] in ("cat", "sleep")
        if argv[0] == "printf":
            self.output.append("".join(f"{word}|" for word in argv[2:]).encode())
        if argv[0] == "sh":
            self.status, self.stderr = 3, b"oops\n"
        self.over = not self._echo

    def send(self, data: bytes | memoryview) -> None:
        if not self._echo:
            raise BrokenPipeError
        if data:
            self.output.append(bytes(data))


class AgentChannel(FakeChannel):
    """An agent: the real decoder takes requests apart, the test's function answers them."""

    def __init__(self, answer: Answer, hello: wire.Message | bytes) -> None:
        super().__init__()
        self._answer = answer
        self._decoder = wire.Decoder()
        self._request: wire.Message | None = None
        self._payload = b""
        self.output.append(hello if isinstance(hello, bytes) else wire.encode(hello))

    def send(self, data: bytes | memoryview) -> None:
        if self.over:
            raise BrokenPipeError
        for event in self._decoder.feed(bytes(data)):
            if isinstance(event, bytes):
                self._payload += event
            else:
                self._request, self._payload = event, b""
            self._reply_when_whole()

    def _reply_when_whole(self) -> None:
        request = self._request
        if request is None or len(self._payload) < getattr(request, "payload_bytes", 0):
            return
        for piece in self._answer(request, self._payload):
            self.output.append(piece if isinstance(piece, (bytes, type)) else wire.encode(piece))
        self._request = None


__all__ = ["HELLO", "ROOT", "FakeLink", "FakeTransport", "LinkLostError"]
