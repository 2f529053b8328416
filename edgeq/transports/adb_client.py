"""The stock ``adb`` program: found, asked with a time limit, and its list of devices read.

adb ends a server of another version without asking. That server may be at work for an IDE or for
another person, so its version is asked first.
"""

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ConnectError

DEFAULT_PORT = 5037
_HELLO_S = 5.0
_HELLO_BYTES = len("OKAY0004abcd")
_MAX_PORT = 65535
_START_S = 20.0
_ASK_S = 15.0
_STATES = (
    "device|offline|unauthorized|authorizing|connecting|recovery|sideload|rescue|bootloader"
    "|host|detached|no device|no permissions|unknown"
)
_LINE = re.compile(rf"(?P<serial>\S.*?)\s+(?P<state>{_STATES})(?P<rest>\b.*)?")
_SDK = "https://developer.android.com/tools/releases/platform-tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A device in adb's list.

    Attributes:
        state: ``device`` is a phone that is ready.
        told: The rest of the line: model, port, and adb's advice.
    """

    serial: str
    state: str
    told: str = ""

    @property
    def model(self) -> str:
        """As adb shows it, with underscores for blanks; empty when it does not."""
        found = re.search(r"\bmodel:(\S+)", self.told)
        return found[1].replace("_", " ") if found else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What adb said; ``text`` is output and errors together."""

    status: int
    text: str

    @property
    def last_line(self) -> str:
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"status {self.status}"


class Adb:
    """The program named by ``$ADB``, else the one in PATH or in the Android SDK."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        self.program = _find(self.environ)

    def argv(self, serial: str, *words: str) -> list[str]:
        """A command for one device."""
        return [self.program, "-s", serial, *words]

    def ask(self, *words: str, timeout_s: float = _ASK_S) -> Answer:
        """Run adb to its end.

        Raises:
            ConnectError: it does not start, or not end in time.
        """
        try:
            done = subprocess.run(
                [self.program, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environ,
                timeout=timeout_s,
                check=False,
                start_new_session=True,  # Ctrl-C must not end a server that this call started
            )
        except subprocess.TimeoutExpired as error:
            raise ConnectError(
                f"adb {words[0]} did not end within {timeout_s:g} s",
                hint="adb devices shows whether it still answers; unplug the phone and try again",
            ) from error
        except OSError as error:
            raise ConnectError(f"cannot start {self.program}: {error.strerror}") from error
        return Answer(done.returncode, done.stdout.decode("utf-8", "replace"))

    def require_server(self) -> None:
        """A server of this adb's version answers; it is started if none is there.

        Raises:
            ConnectError: it does not start, does not answer, or is of another version.
        """
        running = self._server_version()
        if running is None:
            answer = self.ask("start-server", timeout_s=_START_S)
            if answer.status:
                raise ConnectError(
                    f"adb's server does not start: {answer.last_line}", hint="try: adb devices"
                )
            return
        own = re.search(r"version \d+\.\d+\.(\d+)", self.ask("version").text)
        if own and int(own[1]) != running:
            raise ConnectError(
                f"the adb server that runs here has version {running}, {self.program} has"
                f" {own[1]} and would end it",
                hint="use the adb that started it, ADB=/path/to/adb edgeq …, or end it yourself:"
                " adb kill-server",
            )

    def devices(self) -> tuple[Seen, ...]:
        """All that the server knows, ready or not."""
        answer = self.ask("devices", "-l")
        if answer.status:
            raise ConnectError(f"adb devices failed: {answer.last_line}", hint="try: adb devices")
        return parse_devices(answer.text)

    def _server_version(self) -> int | None:
        """Of the running server; None where none runs, or where it listens is not known."""
        address = _server_address(self.environ)
        if address is None:
            return None
        try:
            with socket.create_connection(address, timeout=_HELLO_S) as connection:
                connection.sendall(b"000chost:version")
                said = b""
                while len(said) < _HELLO_BYTES and (piece := connection.recv(64)):
                    said += piece
        except ConnectionRefusedError:
            return None
        except OSError as error:
            raise ConnectError(
                f"adb's server at {address[0]}:{address[1]} does not answer: {error}",
                hint="adb kill-server ends it, if nobody else needs it",
            ) from error
        found = re.fullmatch(rb"OKAY0004([0-9a-fA-F]{4})", said)
        return int(found[1], 16) if found else None


def parse_devices(text: str) -> tuple[Seen, ...]:
    """The list that ``adb devices`` prints, with or without ``-l``."""
    seen = []
    for line in text.splitlines():
        if line.startswith(("List of devices", "*", "adb server", "adb: ")):
            continue
        if found := _LINE.fullmatch(line.strip()):
            told = (found["rest"] or "").strip()
            seen.append(Seen(serial=found["serial"], state=found["state"], told=told))
    return tuple(seen)


def _find(environ: Mapping[str, str]) -> str:
    if named := environ.get("ADB"):
        return named
    if found := shutil.which("adb", path=environ.get("PATH")):
        return found
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        program = Path(environ.get(variable, "")) / "platform-tools" / "adb"
        if environ.get(variable) and program.is_file():
            return str(program)
    raise ConnectError(
        "adb, which reaches Android devices, is not installed here",
        hint=f"sudo apt install adb (Debian, Ubuntu), or the platform-tools: {_SDK}",
    )


def _server_address(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Where the server listens, by adb's own variables; None for a socket that is not TCP."""
    host = environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
    port = environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
    if named := environ.get("ADB_SERVER_SOCKET"):
        found = re.fullmatch(r"tcp:(?:(.+):)?(\d+)", named)
        if found is None:
            return None
        host, port = found[1] or "127.0.0.1", found[2]
    return (host, int(port)) if port.isdigit() and 0 < int(port) <= _MAX_PORT else None
