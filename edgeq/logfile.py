"""A power meter by the file that its own program writes, perhaps still while it is read."""

import contextlib
import os
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from edgeq.core import meterlog
from edgeq.core.meterlog import Log
from edgeq.core.raw import Numbers
from edgeq.errors import MeterError
from edgeq.ports import OnProgress, Readings

MAX_BYTES = 1 << 30
# How long a log may lag behind what it logs, and how long it may stand still meanwhile.
LIMIT_S = 60.0
STILL_S = 10.0
_LOOK_S = 0.25
_TAIL_BYTES = 1 << 16
# Around the run, for what is interpolated at its ends.
_MARGIN_S = 5.0
_FORMS = "docs/measuring.md, --meter, says what a log may look like"
# Readings that a report keeps; more are averaged in groups.
_MOST = 20_000


class LogFile:
    """``ports.PowerMeter``. ``read`` knows the form of the file.

    Raises:
        MeterError: there is no such file.
    """

    def __init__(self, path: Path, kind: str, read: meterlog.Read) -> None:
        self._path = path
        self._read = read
        self.source = f"{kind} {path.name}"
        if not path.is_file():
            raise MeterError(
                f"the meter's log {path} is not there",
                hint="start the program that writes it first, or name the file that it writes",
            )

    def start(self) -> None:
        """It is read afterwards; a file that cannot be understood is told now."""
        head = self._bytes(0, _TAIL_BYTES)
        if b"\0" in head:
            raise MeterError(f"{self._path} is no UTF-8 text", hint=_FORMS)
        if head.count(b"\n") > 1:
            self._parse(head)

    def stop(self, start_s: float, end_s: float, on_progress: OnProgress) -> Readings:
        """See ``ports.PowerMeter``; waits for a log that is still being written."""
        self._wait(start_s, end_s, on_progress)
        if self._path.stat().st_size > MAX_BYTES:
            raise MeterError(f"{self._path} has more than {MAX_BYTES >> 20} MiB")
        try:
            log = meterlog.steady(self._parse(self._bytes(0, MAX_BYTES)))
        except ValueError as error:
            raise MeterError(f"{self._path} cannot be used: {error}") from error
        log, zone = _in_zone(log, start_s, end_s)
        self._require(log, start_s, end_s)
        near = (log.times_s >= start_s - _MARGIN_S) & (log.times_s <= end_s + _MARGIN_S)
        times_s, watts, group = _fewer(log.times_s[near], log.watts[near])
        means = f", means of {group} readings" if group > 1 else ""
        return Readings(source=f"{self.source}{zone}{means}", times_s=times_s, watts=watts)

    def close(self) -> None:
        """Nothing is open."""

    def _wait(self, start_s: float, end_s: float, on_progress: OnProgress) -> None:
        """Until the log reaches the end of the run, or stands still, or too long."""
        begun_s = grown_s = time.monotonic()
        size = -1
        while True:
            now_s = time.monotonic()
            if (bytes_now := self._size()) != size:
                size, grown_s = bytes_now, now_s
            newest_s = self._newest(start_s, end_s)
            if newest_s is not None and newest_s >= end_s:
                return
            if now_s - begun_s > LIMIT_S or now_s - grown_s > STILL_S:
                return
            covered = (
                0.0 if newest_s is None else min(max(newest_s - start_s, 0.0), end_s - start_s)
            )
            on_progress("wait for the meter's log", int(covered), int(end_s - start_s))
            time.sleep(_LOOK_S)

    def _newest(self, start_s: float, end_s: float) -> float | None:
        """The time of the last row, as far as one can be read yet."""
        size = self._size()
        head = self._bytes(0, min(size, _TAIL_BYTES))
        tail = self._bytes(max(0, size - _TAIL_BYTES), size) if size > _TAIL_BYTES else b""
        # The first line of the tail is most likely a piece of one.
        text = head[: head.rfind(b"\n") + 1] + tail.partition(b"\n")[2]
        with contextlib.suppress(MeterError):
            log, _ = _in_zone(self._parse(text), start_s, end_s)
            return float(log.times_s[-1]) if len(log.times_s) else None
        return None

    def _require(self, log: Log, start_s: float, end_s: float) -> None:
        if not len(log.times_s):
            raise MeterError(f"{self._path} has no readings")
        first_s, last_s = float(log.times_s[0]), float(log.times_s[-1])
        if last_s >= start_s and first_s <= end_s:
            return
        ahead_s = first_s - end_s if first_s > end_s else last_s - start_s
        word = "ahead of" if ahead_s > 0 else "behind"
        raise MeterError(
            f"{self._path} goes from {_clock(first_s)} to {_clock(last_s)}, the run was from"
            f" {_clock(start_s)} to {_clock(end_s)}: the meter's clock is {abs(ahead_s):.0f} s or"
            f" more {word} this machine's, or it did not log then"
        )

    def _parse(self, data: bytes) -> Log:
        # A row that has no end yet is being written.
        whole = data[: data.rfind(b"\n") + 1]
        try:
            return self._read(whole.decode("utf-8-sig", "replace"))
        except ValueError as error:
            raise MeterError(f"{self._path} is no such log: {error}", hint=_FORMS) from error

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError as error:
            raise MeterError(f"cannot read {self._path}: {error.strerror}") from error

    def _bytes(self, start: int, end: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start, os.SEEK_SET)
                return file.read(end - start)
        except OSError as error:
            raise MeterError(f"cannot read {self._path}: {error.strerror}") from error


def _in_zone(log: Log, start_s: float, end_s: float) -> tuple[Log, str]:
    """Times without a zone are this machine's or UTC: whichever is nearer to the run."""
    if log.zoned or not len(log.times_s):
        return log, ""
    offset = datetime.fromtimestamp(start_s).astimezone().utcoffset()
    local_s = 0.0 if offset is None else offset.total_seconds()

    def distance_s(shift_s: float) -> float:
        first_s, last_s = log.times_s[0] - shift_s, log.times_s[-1] - shift_s
        return max(0.0, float(first_s - end_s), float(start_s - last_s))

    shift_s = min((local_s, 0.0), key=distance_s)
    words = ", times taken as UTC" if shift_s != local_s else ", times taken as this machine's"
    moved = Log(times_s=log.times_s - shift_s, watts=log.watts, zoned=True)
    return moved, words


def _fewer(times_s: Numbers, watts: Numbers) -> tuple[Numbers, Numbers, int]:
    """At most so many rows, each the mean of a group of this size; the last few may be dropped."""
    group = max(1, -(-len(times_s) // _MOST))
    if group == 1:
        return times_s, watts, 1
    whole = len(times_s) // group * group
    times, means = (values[:whole].reshape(-1, group).mean(axis=1) for values in (times_s, watts))
    return np.asarray(times), np.asarray(means), group


def _clock(moment_s: float) -> str:
    try:
        return datetime.fromtimestamp(moment_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{moment_s:g} s"
