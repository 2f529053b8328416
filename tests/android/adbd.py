"""The device side of adb over TCP, as far as the stock ``adb`` client needs it.

    python adbd.py PORT [--bind ADDRESS] [--auth none|accept|refuse] [--model NAME]
                        [--shell 'WORD …'] [--vanish-after BYTES]

It speaks for the machine it runs on: a shell line runs there, a pushed file lands there. Put it
into a root of its own (``phone.py``) or into an emulated machine, and that is the phone.
Services: ``shell:`` (with and without ``v2``), ``exec:``, ``sync:`` (STAT, LIST, SEND, RECV).
The protocol: android.googlesource.com, platform/packages/modules/adb, protocol.txt, SYNC.TXT and
shell_protocol.h. Standard library only.
"""

import argparse
import contextlib
import os
import shlex
import socket
import socketserver
import stat
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

VERSION = 0x01000001
MAX_PAYLOAD = 256 * 1024
HEADER = struct.Struct("<6I")
CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(word, "little")
    for word in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_PUBLIC_KEY = 1, 2, 3
SHELL_STDIN, SHELL_STDOUT, SHELL_STDERR, SHELL_EXIT, SHELL_CLOSE_STDIN = range(5)
CHUNK = 64 * 1024


@dataclass(frozen=True)
class Options:
    auth: str
    model: str
    shell: tuple[str, ...]
    vanish_after: int | None


class Stream:
    """One service's bytes in both directions; a write waits for the host's OKAY of the last one."""

    def __init__(self, connection: "Connection", local: int, remote: int) -> None:
        self._connection, self.local, self.remote = connection, local, remote
        self._buffer = bytearray()
        self._changed = threading.Condition()
        self._may_write, self.closed = True, False

    def feed(self, data: bytes) -> None:
        with self._changed:
            self._buffer += data
            self._changed.notify_all()

    def acknowledged(self) -> None:
        with self._changed:
            self._may_write = True
            self._changed.notify_all()

    def read(self, count: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: len(self._buffer) >= count or self.closed)
            if len(self._buffer) < count:
                raise EOFError
            data = bytes(self._buffer[:count])
            del self._buffer[:count]
            return data

    def write(self, data: bytes) -> None:
        size = self._connection.max_payload
        for start in range(0, len(data), size):
            with self._changed:
                self._changed.wait_for(lambda: self._may_write or self.closed)
                if self.closed:
                    raise EOFError
                self._may_write = False
            self._connection.send(WRTE, self.local, self.remote, data[start : start + size])

    def finish(self) -> None:
        """Close it, once the host has taken what was written."""
        with self._changed:
            self._changed.wait_for(lambda: self._may_write or self.closed, timeout=10)
            was_open, self.closed = not self.closed, True
            self._changed.notify_all()
        if was_open:
            self._connection.send(CLSE, self.local, self.remote)

    def cut(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Connection(socketserver.BaseRequestHandler):
    """The talk with one adb server."""

    server: "Daemon"

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._trusted = self.server.options.auth == "none"
        self._received_bytes = 0
        self.max_payload = 4096

    def handle(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                command, first, second, length, _, _ = HEADER.unpack(self._receive(HEADER.size))
                self._answer(command, first, second, self._receive(length))

    def finish(self) -> None:
        for stream in self._streams.values():
            stream.cut()

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        checksum = sum(data) & 0xFFFFFFFF
        header = HEADER.pack(command, first, second, len(data), checksum, command ^ 0xFFFFFFFF)
        with self._sending, contextlib.suppress(OSError):
            self.request.sendall(header + data)

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.request.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        self._received_bytes += count
        limit = self.server.options.vanish_after
        if limit is not None and self._received_bytes > limit:
            self.server.vanish()
        return bytes(data)

    def _answer(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CNXN:
            self.max_payload = min(second, MAX_PAYLOAD)
            self._greet()
        elif command == AUTH:
            self._authorise(first)
        elif not self._trusted:
            raise EOFError
        elif command == OPEN:
            stream = Stream(self, len(self._streams) + 1, first)
            self._streams[stream.local] = stream
            name = data.rstrip(b"\0").decode()
            threading.Thread(target=self._serve, args=(stream, name), daemon=True).start()
        elif stream := self._streams.get(second):
            self._pass_on(stream, command, data)

    def _greet(self) -> None:
        if not self._trusted:
            self.send(AUTH, AUTH_TOKEN, 0, os.urandom(20))
            return
        model = self.server.options.model
        names = "".join(f"ro.product.{key}={model};" for key in ("name", "model", "device"))
        self.send(CNXN, VERSION, MAX_PAYLOAD, f"device::{names}features=shell_v2,cmd".encode())

    def _authorise(self, kind: int) -> None:
        if kind == AUTH_PUBLIC_KEY and self.server.options.auth == "accept":
            self._trusted = True
            self._greet()
        elif kind == AUTH_SIGNATURE:  # by a key that this phone has not seen
            self.send(AUTH, AUTH_TOKEN, 0, os.urandom(20))

    def _pass_on(self, stream: Stream, command: int, data: bytes) -> None:
        if command == WRTE:
            stream.feed(data)
            self.send(OKAY, stream.local, stream.remote)
        elif command == OKAY:
            stream.acknowledged()
        elif command == CLSE:
            stream.cut()

    def _serve(self, stream: Stream, name: str) -> None:
        kind, _, rest = name.partition(":")
        words = kind.split(",")
        if words[0] not in ("shell", "exec", "sync"):
            self.send(CLSE, 0, stream.remote)
            return
        self.send(OKAY, stream.local, stream.remote)
        with contextlib.suppress(EOFError, OSError):
            if words[0] == "sync":
                Files(stream).serve()
            else:
                Shell(stream, framed="v2" in words).run((*self.server.options.shell, rest))
        stream.finish()


class Shell:
    """A shell line; ``framed``: its output, errors and exit status apart (version 2)."""

    def __init__(self, stream: Stream, *, framed: bool) -> None:
        self._stream, self._framed = stream, framed
        self._writing = threading.Lock()

    def run(self, argv: tuple[str, ...]) -> None:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if self._framed else subprocess.STDOUT,
            bufsize=0,
        )
        threading.Thread(target=self._feed, args=(child,), daemon=True).start()
        outputs = [(child.stdout, SHELL_STDOUT)]
        if self._framed:
            outputs.append((child.stderr, SHELL_STDERR))
        pumps = [threading.Thread(target=self._pump, args=pair) for pair in outputs]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        status = child.wait()
        if self._framed:
            self._frame(SHELL_EXIT, bytes([status if status >= 0 else 128 - status]))

    def _feed(self, child: "subprocess.Popen[bytes]") -> None:
        """What the host types; when it goes away the command's input ends, as on a phone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                if not self._framed:
                    child.stdin.write(self._stream.read(1))
                    continue
                kind, length = struct.unpack("<BI", self._stream.read(5))
                data = self._stream.read(length)
                if kind == SHELL_CLOSE_STDIN:
                    break
                if kind == SHELL_STDIN:
                    child.stdin.write(data)
        with contextlib.suppress(OSError):
            child.stdin.close()

    def _pump(self, source, kind: int) -> None:
        # A host that went away must not leave the command blocked in a full pipe.
        gone = False
        while data := os.read(source.fileno(), CHUNK):
            if not gone:
                try:
                    self._frame(kind, data)
                except (EOFError, OSError):
                    gone = True

    def _frame(self, kind: int, data: bytes) -> None:
        with self._writing:
            head = struct.pack("<BI", kind, len(data)) if self._framed else b""
            self._stream.write(head + data)


class Files:
    """The file service."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def serve(self) -> None:
        services = {b"STAT": self._stat, b"LIST": self._list, b"SEND": self._send,
                    b"RECV": self._receive}  # fmt: skip
        while True:
            word, length = self._head()
            path = self._stream.read(length).decode()
            if word not in services:
                return
            services[word](path)

    def _head(self) -> tuple[bytes, int]:
        word, number = struct.unpack("<4sI", self._stream.read(8))
        return word, number

    def _stat(self, path: str) -> None:
        self._stream.write(b"STAT" + _facts(Path(path)))

    def _list(self, path: str) -> None:
        with contextlib.suppress(OSError):
            for entry in Path(path).iterdir():
                name = entry.name.encode()
                self._stream.write(b"DENT" + _facts(entry) + struct.pack("<I", len(name)) + name)
        self._stream.write(b"DONE" + bytes(16))

    def _receive(self, path: str) -> None:
        try:
            with Path(path).open("rb") as file:
                while data := file.read(CHUNK):
                    self._stream.write(b"DATA" + struct.pack("<I", len(data)) + data)
        except OSError as error:
            self._fail(error)
        else:
            self._stream.write(b"DONE" + bytes(4))

    def _send(self, request: str) -> None:
        name, _, mode = request.rpartition(",")
        path = Path(name)
        failure: OSError | None = None
        data = bytearray()
        while True:
            word, number = self._head()
            if word == b"DONE":
                break
            data += self._stream.read(number)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(stat.S_IMODE(int(mode)))
            os.utime(path, (number, number))
        except OSError as error:
            failure = error
        if failure:
            self._fail(failure)
        else:
            self._stream.write(b"OKAY" + bytes(4))

    def _fail(self, error: OSError) -> None:
        text = (error.strerror or str(error)).encode()
        self._stream.write(b"FAIL" + struct.pack("<I", len(text)) + text)


def _facts(path: Path) -> bytes:
    """Mode, size and time; zeros for what is not there."""
    try:
        found = path.lstat()
    except OSError:
        return bytes(12)
    return struct.pack("<3I", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))


class Daemon(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], options: Options) -> None:
        self.options = options
        super().__init__(address, Connection)

    def vanish(self) -> None:
        """As a phone whose cable is pulled: no word more, and nobody there afterwards."""
        os._exit(3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--auth", default="none", choices=["none", "accept", "refuse"])
    parser.add_argument("--model", default="edgeq_phone")
    parser.add_argument("--shell", default="/bin/sh -c", help="its last word will be the line")
    parser.add_argument("--vanish-after", type=int)
    words = parser.parse_args()
    options = Options(
        auth=words.auth,
        model=words.model,
        shell=tuple(shlex.split(words.shell)),
        vanish_after=words.vanish_after,
    )
    with Daemon((words.bind, words.port), options) as daemon:
        sys.stdout.write(f"adbd on {daemon.server_address[1]}\n")
        sys.stdout.flush()
        daemon.serve_forever()


if __name__ == "__main__":
    main()
