"""A real agent in a process of its own, and a host's half just big enough to test it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from edgeq import wire

ANSWER_S = 60.0
HEARTBEAT_S = 5.0


@dataclass
class Agent:
    """Talks the wire; ``progress`` collects what came on the way to the replies."""

    process: subprocess.Popen[bytes]
    root: Path
    progress: list[wire.Progress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._decoder = wire.Decoder()
        self._events: deque[wire.Message | bytes] = deque()

    def send(self, message: wire.Message, payload: bytes = b"") -> None:
        self.process.stdin.write(wire.encode(message) + payload)
        self.process.stdin.flush()

    def ask(self, message: wire.Message, payload: bytes = b"") -> wire.Message:
        self.send(message, payload)
        return self.receive()

    def receive(self) -> wire.Message:
        """The next reply.

        Raises:
            EOFError: the agent ended.
        """
        while True:
            event = self._next()
            if isinstance(event, wire.Progress):
                self.progress.append(event)
                continue
            return event

    def payload(self, size_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < size_bytes:
            data += self._next()
        return bytes(data)

    def put(self, path: str, data: bytes) -> wire.Message:
        """Put a whole file; the last answer."""
        state = self.ask(wire.Put(path, len(data), hashlib.sha256(data).hexdigest()))
        if not isinstance(state, wire.PutState) or state.complete:
            return state
        rest = data[state.have_bytes :]
        return self.ask(wire.Data(len(rest), state.have_bytes), rest)

    def get(self, path: str) -> bytes:
        header = self.ask(wire.Get(path))
        assert isinstance(header, wire.Data), header
        return self.payload(header.payload_bytes)

    def install(self, model: str, release: str, contents: dict[str, bytes]) -> wire.Message:
        """Stage, put what is missing, and seal."""
        files = files_of(contents)
        staged = self.ask(wire.Stage(model, release, files))
        assert isinstance(staged, wire.Staged), staged
        if staged.exists:
            return staged
        for name in staged.missing:
            assert self.put(f"{staged.folder}/{name}", contents[name]) == wire.Done()
        return self.ask(wire.Seal(model, release, staged.folder, files))

    def deploy(self, model: str, release: str, contents: dict[str, bytes]) -> wire.Releases:
        self.install(model, release, contents)
        releases = self.ask(wire.Commit(model, release))
        assert isinstance(releases, wire.Releases), releases
        return releases

    def end(self) -> int:
        """Hang up, and wait for the exit status."""
        self.process.stdin.close()
        status = self.process.wait(ANSWER_S)
        self.process.stdout.close()
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def _next(self) -> wire.Message | bytes:
        beats = int(ANSWER_S // HEARTBEAT_S)
        while not self._events:
            while not select.select([self.process.stdout], [], [], HEARTBEAT_S)[0]:
                beats -= 1
                assert beats, "the agent says nothing"
                with contextlib.suppress(OSError):
                    self.process.stdin.write(wire.HEARTBEAT)
                    self.process.stdin.flush()
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise EOFError("the agent ended")
            self._events.extend(self._decoder.feed(data))
        return self._events.popleft()


def start(
    archive: Path, root: Path, python: str = sys.executable, *options: str, **environment: str
) -> Agent:
    """Start an agent; its ``Hello`` is still to be received."""
    process = subprocess.Popen(
        [python, "-B", *options, str(archive), "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "EDGEQ_ROOT": str(root), **environment},
        bufsize=-1,
    )
    return Agent(process, root)


def files_of(contents: dict[str, bytes]) -> tuple[wire.File, ...]:
    return tuple(
        wire.File(name, hashlib.sha256(data).hexdigest(), len(data))
        for name, data in sorted(contents.items())
    )
