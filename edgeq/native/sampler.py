"""Readings of a phone's sensors while something runs, by a loop in its own shell.

The loop uses what the shell has built in, one ``sleep`` a turn apart: reading ten files costs a
phone well under a millisecond. It ends with the connection.
"""

import contextlib
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.errors import ConnectError
from edgeq.ports import Channel, Link

_SAMPLE = r"""
i=$1; shift
exec 3<&0 </dev/null
{ cat <&3; kill $$; } >/dev/null 2>&1 &
while :; do
  t=-; read -r t _ 2>/dev/null </proc/uptime
  for f; do v=; read -r v 2>/dev/null <"$f"; t="$t;$v"; done
  echo "$t"
  sleep "$i" || exit 1
done
"""
_SURVEY = r"""
for s in /sys/class/power_supply/*; do
  [ -e "$s" ] || continue
  for k in type scope online status current_now voltage_now power_now; do
    v=; read -r v 2>/dev/null <"$s/$k" && echo "$s/$k=$v"
  done
done
for z in /sys/class/thermal/thermal_zone*; do
  v=; read -r v 2>/dev/null <"$z/temp" || continue
  n=; read -r n 2>/dev/null <"$z/type"; echo "$z/temp=$v $n"
done
for c in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq; do
  v=; read -r v 2>/dev/null <"$c" && echo "$c=$v"
done
exit 0
"""
_THROTTLING = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_LIMIT_S = 30.0
_MAX_BYTES = 64 << 20
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was read. Each row: the phone's uptime, then a text for each of ``paths``."""

    paths: tuple[str, ...] = ()
    rows: tuple[tuple[float, tuple[str, ...]], ...] = ()


def survey(link: Link) -> dict[str, str]:
    """The sensors' files that adb's user can read, with their values."""
    done = link.run(["sh", "-c", _SURVEY], timeout_s=_LIMIT_S)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {path: value.strip() for path, found, value in pairs if found and path.startswith("/")}


def thermal_status(link: Link) -> str | None:
    """How hard Android says it throttles: ``none``, ``light``, …; None where it does not say."""
    done = link.run(["dumpsys", "thermalservice"], timeout_s=_LIMIT_S)
    found = re.search(rb"Thermal Status: (\d)", done.stdout)
    if done.status or found is None or int(found[1]) >= len(_THROTTLING):
        return None
    return _THROTTLING[int(found[1])]


def dumped_battery(link: Link) -> dict[str, str]:
    """``dumpsys battery`` as keys in lower case; empty where there is none."""
    done = link.run(["dumpsys", "battery"], timeout_s=_LIMIT_S)
    return parse_dump(done.stdout.decode("utf-8", "replace")) if done.status == 0 else {}


def parse_dump(text: str) -> dict[str, str]:
    """The lines ``key: value`` of ``dumpsys battery``; the first of each key counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.strip().partition(":")
        if colon and value.strip():
            found.setdefault(key.strip().lower(), value.strip())
    return found


class Sampler:
    """Reads in the background until it is stopped; the thread alone has the channel."""

    def __init__(self, link: Link, paths: Sequence[str], interval_s: float) -> None:
        self._paths = tuple(paths)
        self._said = bytearray()
        self._stopping = threading.Event()
        self._reader: threading.Thread | None = None
        if self._paths:
            words = [f"{interval_s:g}", *self._paths]
            channel = link.open(["sh", "-c", _SAMPLE, "sh", *words])
            self._reader = threading.Thread(target=self._read, args=(channel,), daemon=True)
            self._reader.start()

    def stop(self) -> Readings:
        """End it; what it read until then, also when the connection broke meanwhile."""
        self._stopping.set()
        if self._reader is not None:
            self._reader.join(_LIMIT_S)
        rows = []
        for line in bytes(self._said).decode("utf-8", "replace").split("\n")[:-1]:
            stamp, *values = line.strip().split(";")
            if len(values) == len(self._paths) and re.fullmatch(r"\d+(\.\d+)?", stamp):
                rows.append((float(stamp), tuple(value.strip() for value in values)))
        return Readings(paths=self._paths, rows=tuple(rows))

    def _read(self, channel: Channel) -> None:
        # A link that breaks shows in the run itself, too, which says so.
        with contextlib.suppress(ConnectError, OSError), contextlib.closing(channel):
            while len(self._said) < _MAX_BYTES:
                try:
                    piece = channel.receive(_POLL_S)
                except TimeoutError:
                    piece = None
                self._said += piece or b""
                if piece == b"" or self._stopping.is_set():
                    return
