"""Reads sensors at a steady rate, cheaply: files stay open, bytes are parsed after the run."""

from __future__ import annotations

import os
import threading
import time
import typing

from edgeq.agent.ports import Raw, Sensor

Row = typing.Tuple[typing.Optional[float], ...]
_READ_BYTES = 128  # a sysfs number is far shorter


class Sampler:
    """A thread; ``start`` it, then ``stop`` it for the rows. ``lost``: sensors that do not open."""

    def __init__(self, sensors: typing.Sequence[Sensor], hz: float) -> None:
        self.sensors: list[Sensor] = []
        self.lost: list[Sensor] = []
        self.cpu_s = 0.0
        self._period_s = 1.0 / hz
        self._descriptors: list[tuple[int, ...]] = []
        for sensor in sensors:
            opened = _open_all(sensor)
            if opened is None:
                self.lost.append(sensor)
            else:
                self.sensors.append(sensor)
                self._descriptors.append(opened)
        self._rows: list[tuple[int, tuple[Raw, ...]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> tuple[Row, ...]:
        """End it, take a last sample, and parse: (t_ns, value of each sensor or None)."""
        self._stop.set()
        self._thread.join()
        for descriptors in self._descriptors:
            for descriptor in descriptors:
                os.close(descriptor)
        columns = [
            sensor.parse([raws[position] for _, raws in self._rows])
            for position, sensor in enumerate(self.sensors)
        ]
        times = [float(t_ns) for t_ns, _ in self._rows]
        return tuple(zip(times, *columns))

    def _work(self) -> None:
        due_s = time.monotonic()
        while True:
            self._rows.append((time.monotonic_ns(), tuple(map(_read_all, self._descriptors))))
            due_s += self._period_s
            if self._stop.wait(max(0.0, due_s - time.monotonic())):
                break
        self._rows.append((time.monotonic_ns(), tuple(map(_read_all, self._descriptors))))
        self.cpu_s = time.thread_time()


def _open_all(sensor: Sensor) -> tuple[int, ...] | None:
    opened: list[int] = []
    for path in sensor.files:
        try:
            opened.append(os.open(str(path), os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            return None
    return tuple(opened)


def _read_all(descriptors: tuple[int, ...]) -> Raw:
    return tuple(map(_read, descriptors))


def _read(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, _READ_BYTES, 0)
    except OSError:  # a sensor that is asleep or gone for a moment: no value, which is not 0
        return b""
