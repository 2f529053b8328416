"""A run with a power meter at this machine: clocks compared, readings joined to the device's."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from edgeq import wire
from edgeq.core import raw
from edgeq.core.clocks import MAX_STEP_S, Exchange, Fit
from edgeq.errors import MeterError
from edgeq.ports import OnProgress, PowerMeter, Readings
from edgeq.session import Measurement, Session

# The shortest of so many round trips tells the offset best.
_EXCHANGES = 12
# Rows that cannot be are left out here; ``core.raw`` would refuse the whole channel.
_WATTS = (0.0, 10_000.0)


def measure(
    session: Session, request: wire.Measure, meter: PowerMeter | None, on_progress: OnProgress
) -> Measurement:
    """Measure as ``Session.measure`` does; a started meter's readings become one more channel.

    Where they say nothing of this run, the reason takes their place: the rest was measured.

    Raises:
        TrialError, DeviceError, ConnectError: see there.
    """
    if meter is None:
        return session.measure(request, on_progress)
    before = _exchange(session)
    measured = session.measure(replace(request, idle_always=True), on_progress)
    fit = Fit(before=before, after=_exchange(session))
    return _joined(measured, fit, meter, on_progress)


@contextlib.contextmanager
def started(meter: PowerMeter | None) -> Iterator[None]:
    """A meter that reads, and is let go however it ends.

    Raises:
        MeterError: it cannot be read.
    """
    if meter is None:
        yield
        return
    meter.start()
    try:
        yield
    finally:
        meter.close()


def _joined(
    measured: Measurement, fit: Fit, meter: PowerMeter, on_progress: OnProgress
) -> Measurement:
    told = wire.HostMeter(
        source=meter.source,
        offset_s=fit.offset_s,
        uncertainty_s=fit.uncertainty_s,
        drift_ppm=fit.drift_ppm,
    )
    message = measured.raw.measured
    try:
        _require_steady(fit)
        readings = meter.stop(fit.before.host_s, fit.after.host_s, on_progress)
        message = _with_rows(message, readings, fit)
        told = replace(told, source=readings.source)
    except MeterError as error:
        told = replace(told, reason=error.message)
    message = replace(message, meter=told)
    return Measurement(raw=raw.read(message, measured.payload), payload=measured.payload)


def _require_steady(fit: Fit) -> None:
    if abs(fit.host_step_s) > MAX_STEP_S:
        raise MeterError(f"this machine's clock was set by {fit.host_step_s:+.1f} s in the run")


def _with_rows(message: wire.Measured, readings: Readings, fit: Fit) -> wire.Measured:
    low, high = _WATTS
    there = (readings.watts >= low) & (readings.watts <= high)
    times_ns = fit.device_ns(readings.times_s[there])
    empty = (None,) * len(message.channels)
    own = [
        (float(t), *empty, float(w)) for t, w in zip(times_ns, readings.watts[there], strict=True)
    ]
    rows = [(*row, None) for row in message.samples] + own
    rows.sort(key=lambda row: row[0] or 0.0)
    channel = wire.Channel("power_w", readings.source, "wall", total=True)
    return replace(message, channels=(*message.channels, channel), samples=tuple(rows))


def _exchange(session: Session) -> Exchange:
    """The exchange with the shortest round trip of several."""
    found = [_one(session) for _ in range(_EXCHANGES)]
    return min(found, key=lambda one: one.uncertainty_s)


def _one(session: Session) -> Exchange:
    asked_s, wall_s = time.monotonic(), time.time()
    told = session.clock()
    half_s = (time.monotonic() - asked_s) / 2
    return Exchange(
        host_s=wall_s + half_s,
        host_monotonic_s=asked_s + half_s,
        device_ns=float(told.monotonic_ns),
        device_wall_s=told.wall_ns / 1e9,
        uncertainty_s=half_s,
    )
