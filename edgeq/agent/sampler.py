"""Reads sensors at a steady rate, cheaply: files stay open, bytes are parsed after the run.

All files are read by one thread, each once a turn however many sensors want it. A slow source
(a program) has a thread and a rate of its own, so that it delays no file.
"""

from __future__ import annotations

import os
import threading
import time
import typing
from pathlib import Path

from edgeq.agent.ports import Raw, Sensor, Slow

Row = typing.Tuple[typing.Optional[float], ...]
_MOST_BYTES = 4096  # what the kernel gives at most
_NUMBER_BYTES = 128  # a file that was shorter than this when it was opened holds a number
# A source that takes long is asked less often: it may take half of its thread's time.
_SLOW_SHARE = 0.5
_SLEEP_S = 0.1  # up to here the end may wait for the next turn: a plain sleep costs a tenth less
_NS = 1e9


class Sampler:
    """``start`` it, then ``stop`` it for the rows. ``lost``: sensors that do not open."""

    def __init__(self, sensors: typing.Sequence[Sensor], hz: float) -> None:
        self.lost: list[Sensor] = []
        self.cpu_s = 0.0
        files = _Files()
        fast = [sensor for sensor in sensors if sensor.slow is None]
        self.lost = [sensor for sensor in fast if not files.open(sensor.files)]
        fast = [sensor for sensor in fast if sensor not in self.lost]
        self._turns = [_Turns(files.read, 1.0 / hz, fast, files)] if fast else []
        for source in _distinct([sensor.slow for sensor in sensors if sensor.slow is not None]):
            own = [sensor for sensor in sensors if sensor.slow is source]
            self._turns.append(_Turns(_once(source), 1.0 / min(hz, source.most_hz), own, source))
        self.sensors = [sensor for turns in self._turns for sensor in turns.sensors]
        self._files = files

    def start(self) -> None:
        for turns in self._turns:
            turns.start()

    def stop(self) -> tuple[Row, ...]:
        """End it, take a last sample, and parse: (t_ns, value of each sensor or None)."""
        for turns in self._turns:
            turns.release()
        for turns in self._turns:
            self.cpu_s += turns.join()
        self._files.close()
        rows: list[Row] = []
        before = 0
        for turns in self._turns:
            after = len(self.sensors) - before - len(turns.sensors)
            rows += turns.rows(before, after)
            before += len(turns.sensors)
        if len(self._turns) > 1 or any(sensor.clock for sensor in self.sensors):
            rows.sort(key=_moment)
        return tuple(rows)


class _Files:
    """Open files, each once."""

    def __init__(self) -> None:
        self._places: dict[Path, int] = {}
        self._descriptors: list[tuple[int, int]] = []

    def open(self, paths: typing.Sequence[Path]) -> bool:
        """Whether all of them open."""
        for path in paths:
            if path in self._places:
                continue
            try:
                descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                return False
            self._places[path] = len(self._descriptors)
            short = len(_read(descriptor, _MOST_BYTES)) < _NUMBER_BYTES
            self._descriptors.append((descriptor, _NUMBER_BYTES if short else _MOST_BYTES))
        return True

    def read(self) -> Raw:
        # A hundred times a second: no function call for each file.
        try:
            return tuple([os.pread(descriptor, size, 0) for descriptor, size in self._descriptors])
        except OSError:
            return tuple([_read(*opened) for opened in self._descriptors])

    def raws(self, sensor: Sensor, rows: typing.Sequence[Raw]) -> list[Raw]:
        """The rows as one sensor sees them."""
        places = [self._places[path] for path in sensor.files]
        return [tuple(row[place] for place in places) for row in rows]

    def close(self) -> None:
        for descriptor, _ in self._descriptors:
            os.close(descriptor)


class _Turns:
    """One thread that reads again and again."""

    def __init__(
        self,
        read: typing.Callable[[], Raw],
        period_s: float,
        sensors: typing.Sequence[Sensor],
        source: _Files | Slow,
    ) -> None:
        self.sensors = sensors
        self._read = read
        self._period_s = period_s
        self._source = source
        self.taken: list[tuple[int, Raw]] = []
        self._cpu_s = 0.0
        self._held = threading.Lock()  # to wait for a lock costs less than for an event
        self._held.acquire()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def release(self) -> None:
        self._held.release()

    def join(self) -> float:
        """Wait for the last reading; the seconds of CPU time that it all took."""
        self._thread.join()
        return self._cpu_s + (0.0 if isinstance(self._source, _Files) else self._source.cpu_s)

    def rows(self, before: int, after: int) -> list[Row]:
        """Every reading, with so many columns of others on either side."""
        times = [float(t_ns) for t_ns, _ in self.taken]
        taken = [row for _, row in self.taken]
        own: list[Row] = []
        columns: list[typing.Sequence[float | None]] = []
        for place, sensor in enumerate(self.sensors):
            raws = self._source.raws(sensor, taken) if isinstance(self._source, _Files) else taken
            values = sensor.parse(raws)
            if sensor.clock is None:
                columns.append(values)
                continue
            columns.append([None] * len(times))
            left, right = before + place, len(self.sensors) - place - 1 + after
            for t_ns, value in _by_own_clock(times, [sensor.clock(raw) for raw in raws], values):
                own.append((t_ns, *[None] * left, value, *[None] * right))
        if all(sensor.clock for sensor in self.sensors):
            return own
        ahead, behind = (None,) * before, (None,) * after
        return [(t, *ahead, *values, *behind) for t, *values in zip(times, *columns)] + own

    def _work(self) -> None:
        pause_s, held, taken = self._period_s, self._held, self.taken
        read, now_ns = self._read, time.monotonic_ns
        period_ns = int(pause_s * _NS)
        slow = not isinstance(self._source, _Files)
        going = True
        due_ns = now_ns()
        while going:
            start_ns = now_ns()
            row = read()
            end_ns = now_ns()
            # The moment is the middle of the reading.
            taken.append(((start_ns + end_ns) // 2, row))
            if slow:
                took_ns = end_ns - start_ns
                pause_ns = max(period_ns - took_ns, int(took_ns * (1 / _SLOW_SHARE - 1)))
                due_ns = end_ns + pause_ns
            else:
                # Late turns are left out, not made up for: they would say the same thing twice.
                due_ns = max(due_ns + period_ns, end_ns)
            left_s = max(0, due_ns - now_ns()) / _NS
            if left_s <= _SLEEP_S and not slow:
                time.sleep(left_s)
                going = held.locked()
            else:
                going = not held.acquire(timeout=left_s)
        taken.append((now_ns(), read()))
        self._cpu_s = time.thread_time()


def _by_own_clock(
    times_ns: typing.Sequence[float],
    clock_s: typing.Sequence[float | None],
    values: typing.Sequence[float | None],
) -> list[tuple[float, float | None]]:
    """Values at the moments that the source says, each once.

    Its clock has another zero than ours. A reading is never from the future, and some were read
    right after they were made: the smallest difference is that of the zeros.
    """
    rows = zip(times_ns, clock_s, values)
    known = [(t, c * _NS, v) for t, c, v in rows if c is not None and v is not None]
    if not known:
        return []
    offset_ns = min(t - c for t, c, _ in known)
    found: list[tuple[float, float | None]] = []
    last_ns = None
    for _, clock_ns, value in known:
        if last_ns is None or clock_ns > last_ns:
            found.append((clock_ns + offset_ns, value))
            last_ns = clock_ns
    return found


def _moment(row: Row) -> float:
    return row[0] or 0.0


def _distinct(sources: typing.Sequence[Slow]) -> list[Slow]:
    return list({id(source): source for source in sources}.values())


def _once(source: Slow) -> typing.Callable[[], Raw]:
    return lambda: (source(),)


def _read(descriptor: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, 0)
    except OSError:  # a sensor that is asleep or gone for a moment: no value, which is not 0
        return b""
