"""One process of ``benchmark_model`` on a phone, watched.

Its lines come with the phone's own time in front. It ends with the connection: a phone that loses
its host must not go on heating up.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.errors import DeviceError, LinkLostError, TrialError
from edgeq.ports import Channel, Link

_RUN = r"""
cd "$1" || exit 91; shift
exec 3<&0 </dev/null
g=; command -v setsid >/dev/null 2>&1 && { g=-; set -- setsid "$@"; }
{
  "$@" 2>&1 3<&- &
  p=$!
  { cat <&3; kill -9 $g$p; } >/dev/null 2>&1 &
  w=$!
  ( while sleep 5 </dev/null >/dev/null; do echo edgeq-beat; done ) &
  b=$!
  wait $p; s=$?
  kill -9 $w $b 2>/dev/null
  echo "edgeq-status $s"
} 2>/dev/null | while IFS= read -r l; do
  t=-; read -r t _ 2>/dev/null </proc/uptime
  echo "$t $l"
done
"""
_STATUS = re.compile(r"edgeq-status (\d+)")
_SIGNAL_BASE = 128
_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
_NOT_EXECUTABLE, _NOT_FOUND, _KILLED = 126, 127, 137
_MAX_LOG_BYTES = 16 << 20
_POLL_S = 1.0
_MAX_LINE = 2000
_BEAT = "edgeq-beat"
# Six beats left out: a phone that is hung, or out of reach with no word of it.
_SILENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A process that ended. ``times_s``: the phone's uptime when each line came; None: unknown."""

    lines: tuple[str, ...]
    times_s: tuple[float | None, ...]
    status: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def run(link: Link, folder: str, argv: Sequence[str], limit_s: float) -> Ran:
    """Run a program there to its end.

    Args:
        link: The open connection.
        folder: Where it runs.
        argv: The program and its flags.
        limit_s: After that it is hung, and ended.

    Raises:
        TrialError: it did not end in time.
        DeviceError: it could not be started.
        LinkLostError: the connection broke.
    """
    channel = link.open(["sh", "-c", _RUN, "sh", folder, *argv])
    try:
        said = _drain(channel, limit_s, _name(program_of(argv)))
    finally:
        done = channel.close()
    lines, times_s = [], []
    for line in said.decode("utf-8", "replace").splitlines():
        stamp, _, text = line[:_MAX_LINE].partition(" ")
        if text != _BEAT:
            lines.append(text)
            times_s.append(_seconds(stamp))
    status = _STATUS.fullmatch(lines[-1]) if lines else None
    if status is None:
        why = done.stderr.decode("utf-8", "replace").strip()[-200:]
        raise DeviceError(
            f"{program_of(argv)} could not be started there: {why or 'no word from it'}"
        )
    return Ran(lines=tuple(lines[:-1]), times_s=tuple(times_s[:-1]), status=int(status[1]))


def program_of(argv: Sequence[str]) -> str:
    """The program among the words: ``taskset`` and its mask may stand before it."""
    return next((word for word in argv if word.startswith("/")), argv[0])


def require_success(ran: Ran, what: str) -> None:
    """The program ended well.

    Raises:
        DeviceError: it cannot run there at all.
        TrialError: it crashed, was ended, or refused the model.
    """
    require_started(ran, what)
    if ran.status:
        raise TrialError(f"{_name(what)} failed with status {ran.status}: {told(ran.lines)[:300]}")


def require_started(ran: Ran, what: str) -> None:
    """The program ran, and ended by itself.

    Raises:
        DeviceError: it cannot run there at all.
        TrialError: it crashed or was ended.
    """
    if ran.status in (_NOT_EXECUTABLE, _NOT_FOUND):
        last = next((line.strip() for line in reversed(ran.lines) if line.strip()), "no word of it")
        raise DeviceError(
            f"{what} cannot be run there: {last[:200]}",
            hint="it must be built for this phone's processor and for Android, and be executable:"
            f" adb shell chmod 755 {what}",
        )
    if ran.status == _KILLED:
        raise TrialError(
            f"{_name(what)} was ended by SIGKILL: the phone may have run out of memory"
        )
    if ran.status > _SIGNAL_BASE:
        number = ran.status - _SIGNAL_BASE
        raise TrialError(f"{_name(what)} crashed with {_SIGNALS.get(number, f'signal {number}')}")


def told(lines: Sequence[str]) -> str:
    """The line that says most about a failure."""
    errors = [
        line
        for line in lines
        if re.search(r"\b(ERROR|FATAL|error)\b", line) and "Benchmarking failed" not in line
    ]
    said = errors or [line for line in lines if line.strip()]
    return said[-1].strip() if said else "it said nothing"


def _drain(channel: Channel, limit_s: float, name: str) -> bytes:
    """All that the program prints.

    Raises:
        TrialError: it did not end in time.
        LinkLostError: the phone gave no sign of life, or the connection broke.
    """
    end = time.monotonic() + limit_s
    heard = time.monotonic()
    said = bytearray()
    while True:
        now = time.monotonic()
        if now > end:
            raise TrialError(f"{name} did not end within {limit_s:.0f} s and was ended")
        if now > heard + _SILENCE_S:
            raise LinkLostError(f"the phone has given no sign of life for {_SILENCE_S:.0f} s")
        try:
            piece = channel.receive(_POLL_S)
        except TimeoutError:
            continue
        if not piece:
            return bytes(said)
        heard = time.monotonic()
        said += piece
        if len(said) > _MAX_LOG_BYTES:
            raise LinkLostError(f"{name} printed more than {_MAX_LOG_BYTES >> 20} MiB")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _seconds(stamp: str) -> float | None:
    try:
        return float(stamp)
    except ValueError:
        return None
