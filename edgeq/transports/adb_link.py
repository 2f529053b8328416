"""Commands on an Android device, through ``adb shell``.

adb joins its words into one line, which a shell on the device reads: so the line is quoted here,
once. adb's own exit status cannot tell a command that succeeded from a connection that broke, so
the line ends by writing its status behind the command's error output.
"""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Sequence

from edgeq.errors import ConnectError, DeviceError, LinkLostError
from edgeq.ports import Completed
from edgeq.transports.adb_client import Adb
from edgeq.transports.local import LocalChannel, LocalLink

_END = re.compile(rb"\x01edgeq-end (\d{1,3})\n\Z")
_LINE = r"{command}; edgeq_s=$?; printf '\001edgeq-end %d\n' $edgeq_s >&2; exit $edgeq_s"
# A shell says 128 and the signal's number for a command that a signal ended.
_SIGNALS = range(129, 129 + 64)
# The server takes a request of at most 65535 bytes.
_MAX_LINE_BYTES = 60_000


class AdbLink:
    """One device, by its serial."""

    def __init__(self, adb: Adb, serial: str, stall_s: float) -> None:
        self._adb = adb
        self.serial = serial
        self._here = LocalLink(stall_s, adb.environ)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """See ``ports.Link``."""
        words = self._words(argv)
        try:
            done = self._here.run(words, stdin=stdin, timeout_s=timeout_s)
        except DeviceError as error:
            if isinstance(error.__cause__, subprocess.TimeoutExpired):
                raise DeviceError(
                    f"{argv[0]} did not end within {timeout_s:g} s", hint=error.hint
                ) from error
            raise ConnectError(error.message, hint=error.hint) from error
        return _told(done, self.serial)

    def open(self, argv: Sequence[str]) -> "AdbChannel":
        """See ``ports.Link``."""
        return AdbChannel(self._here.open(self._words(argv)), self.serial)

    def close(self) -> None:
        """Nothing to do: each command has its own connection, and the server is not edgeq's."""

    def _words(self, argv: Sequence[str]) -> list[str]:
        line = _LINE.format(command=shlex.join(argv))
        if len(line.encode()) > _MAX_LINE_BYTES:
            raise DeviceError(f"the command line of {argv[0]} is too long for adb")
        # No terminal (-T), no escape character: bytes pass as they are.
        return self._adb.argv(self.serial, "shell", "-e", "none", "-T", line)


class AdbChannel:
    """A running command."""

    def __init__(self, here: LocalChannel, serial: str) -> None:
        self._here = here
        self._serial = serial
        self._ended = False

    def send(self, data: bytes | memoryview) -> None:
        """See ``ports.Channel``."""
        if self._ended:
            raise BrokenPipeError
        try:
            self._here.send(data)
        except BrokenPipeError:
            self._end()
            raise

    def receive(self, timeout_s: float) -> bytes:
        """See ``ports.Channel``."""
        piece = b"" if self._ended else self._here.receive(timeout_s)
        if not piece:
            self._end()
        return piece

    def close(self) -> Completed:
        """See ``ports.Channel``; the status is -1 where the command did not end in time."""
        done = self._here.close()
        with contextlib.suppress(LinkLostError):
            return _told(done, self._serial)
        return Completed(status=-1, stdout=b"", stderr=done.stderr)

    def _end(self) -> None:
        """Note adb's end, which came with that of the command or of the connection.

        Raises:
            LinkLostError: of the connection.
        """
        self._ended = True
        _told(self._here.close(), self._serial)


def _told(done: Completed, serial: str) -> Completed:
    """The command's own status and error output.

    Raises:
        LinkLostError: it did not come to its end.
    """
    found = _END.search(done.stderr)
    if found is None:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = f": {said[-1][:200]}" if said else ""
        raise LinkLostError(
            f"the connection to {serial} broke{why}",
            hint="is the phone awake, its cable in and its Wi-Fi on? look with: adb devices -l",
        )
    status = int(found[1])
    return Completed(
        status=128 - status if status in _SIGNALS else status,
        stdout=done.stdout,
        stderr=done.stderr[: found.start()],
    )
