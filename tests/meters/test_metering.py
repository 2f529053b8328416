"""A run with a meter of the host's: clocks compared, readings joined, reasons kept."""

import dataclasses
import re

import numpy as np
import pytest

from edgeq import metering, wire
from edgeq.core import power, raw
from edgeq.core.clocks import Exchange, Fit
from edgeq.errors import MeterError
from edgeq.ports import Readings
from edgeq.session import Measurement
from tests.fakes import measured as device
from tests.fakes.measured import MS, START_NS, span

# The device's monotonic clock is 5000 s at the run's start, the host's wall clock HOST_S.
HOST_S = 1_795_000_000.0
REQUEST = wire.Measure(model="m", inputs="", runtime=wire.Runtime("litert"))


def silent(*_):
    pass


class Session:
    """A device whose clock runs ``ppm`` too fast; asking it takes ``trip_s``."""

    def __init__(self, clock, ppm=0.0, trip_s=0.004):
        self._clock, self._ppm, self._trip_s = clock, ppm, trip_s
        self.asked = []

    def clock(self):
        self._clock.now_s += self._trip_s / 2
        mine_s = (self._clock.now_s - HOST_S) * (1 + self._ppm / 1e6)
        self._clock.now_s += self._trip_s / 2
        return wire.ClockRead(round(START_NS + mine_s * 1e9), round((HOST_S + 7 + mine_s) * 1e9))

    def measure(self, request, _on_progress):
        self.asked.append(request)
        self._clock.now_s = HOST_S + 60
        spans = [span("idle_before", -5.5, -0.5), span("idle_after", 50.5, 55.5)]
        message, payload = device.measure([[100 * MS] * 500], spans=spans)
        return Measurement(raw=raw.read(message, payload), payload=payload)


class Clock:
    """The host's clocks, as ``time`` shows them."""

    def __init__(self):
        self.now_s = HOST_S - 8.0
        self.step_s = 0.0

    def time(self):
        return self.now_s + self.step_s

    def monotonic(self):
        return self.now_s - 1e9


class Meter:
    def __init__(self, watts, reason="", hz=20.0):
        self.source = "csv log.csv"
        self.reason, self.watts, self.hz = reason, watts, hz
        self.steps = []

    def start(self):
        self.steps.append("start")

    def stop(self, start_s, end_s, _on_progress):
        self.steps.append((start_s, end_s))
        if self.reason:
            raise MeterError(self.reason)
        times = np.arange(HOST_S - 7, HOST_S + 58, 1 / self.hz)
        watts = np.array([self.watts(t - HOST_S) for t in times])
        return Readings(source=self.source, times_s=times, watts=watts)

    def close(self):
        self.steps.append("close")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(metering, "time", clock)
    return clock


def load(t):
    return 5.0 if -0.02 <= t <= 50.02 else 2.0


def measure(clock, meter, **options):
    session = Session(clock, **options)
    with metering.started(meter):
        found = metering.measure(session, REQUEST, meter, silent)
    return found, session


def test_the_readings_become_a_channel_that_covers_the_wall(clock):
    meter = Meter(load)
    found, session = measure(clock, meter)
    section = power.power(found.raw).section
    assert (section.source, section.coverage) == ("csv log.csv", "wall")
    assert section.energy_mj == pytest.approx(500, rel=0.005)
    assert section.energy_net_mj == pytest.approx(300, rel=0.01)
    assert section.energy_net_ci_mj is not None
    assert section.clock_offset_s == pytest.approx(7.0, abs=0.003)
    assert section.clock_uncertainty_s == pytest.approx(0.002, rel=1e-3)
    assert session.asked[0].idle_always
    assert meter.steps[0] == "start"
    assert meter.steps[-1] == "close"
    start_s, end_s = meter.steps[1]
    assert start_s < HOST_S - 5.5
    assert end_s > HOST_S + 55.5


def test_it_survives_the_store(clock):
    found, _ = measure(clock, Meter(load))
    again = raw.unpack(raw.pack(found.raw.measured, found.payload))
    assert power.power(again) == power.power(found.raw)


def test_the_drift_of_the_clocks_is_told_and_taken_out(clock):
    def late(t):
        return 5.0 if 49.0 <= t <= 50.02 else 2.0

    # 20,000 ppm is far more than a quartz does; 50 s of the device's clock are 49.02 s here.
    found, _ = measure(clock, Meter(late, hz=200.0), ppm=20_000.0)
    section = power.power(found.raw).section
    assert section.clock_drift_ppm == pytest.approx(20_000, rel=0.01)
    assert section.mean_w == pytest.approx(2.0, rel=0.01)


def test_a_meter_that_says_nothing_of_the_run_leaves_the_reason_and_the_rest(clock):
    found, _ = measure(clock, Meter(load, reason="its clock is 3600 s behind"))
    told = power.power(found.raw)
    assert told.section.energy_mj is None
    assert (told.section.source, told.section.coverage) == ("csv log.csv", "wall")
    missing = {item.field: item.reason for item in told.missing}
    assert missing["power.energy_mj"] == "its clock is 3600 s behind"
    assert len(found.raw.processes) == 1
    empty = {f"power.{k}" for k, v in told.section.model_dump().items() if v is None}
    assert empty == set(missing)


def test_the_devices_own_sensor_does_not_stand_in_for_the_meter(clock):
    found, _ = measure(clock, Meter(load, reason="it did not log then"))
    own = wire.Channel("power_w", "ina3221 VDD_IN", "module", total=True)
    message = dataclasses.replace(
        found.raw.measured,
        channels=(own,),
        samples=tuple((float(START_NS + i * 1e8), 3.0) for i in range(501)),
    )
    section = power.power(raw.read(message, found.payload)).section
    assert section.source == "csv log.csv"
    assert section.mean_w is None


def test_readings_that_stop_in_the_midst_are_told(clock):
    meter = Meter(load)
    full = meter.stop

    def short(start_s, end_s, on_progress):
        found = full(start_s, end_s, on_progress)
        keep = found.times_s < HOST_S + 30
        return dataclasses.replace(found, times_s=found.times_s[keep], watts=found.watts[keep])

    meter.stop = short
    found, _ = measure(clock, meter)
    missing = {item.field: item.reason for item in power.power(found.raw).missing}
    assert re.search(r"end 20\.\d\d s before that time", missing["power.energy_mj"])


def test_a_host_whose_clock_was_set_in_the_run_has_no_offset(clock):
    meter = Meter(load)
    session = Session(clock)
    real = session.measure

    def stepping(request, on_progress):
        clock.step_s = 3.0
        return real(request, on_progress)

    session.measure = stepping
    found = metering.measure(session, REQUEST, meter, silent)
    reason = found.raw.measured.meter.reason
    assert reason == "this machine's clock was set by +3.0 s in the run"
    assert meter.steps == []


def test_readings_that_cannot_be_are_left_out_not_the_whole_meter(clock):
    found, _ = measure(clock, Meter(lambda t: -5.0 if abs(t - 20) < 0.03 else load(t)))
    section = power.power(found.raw).section
    assert section.energy_mj == pytest.approx(500, rel=0.005)


def test_without_a_meter_nothing_is_asked_of_the_clocks(clock):
    session = Session(clock)
    metering.measure(session, REQUEST, None, silent)
    assert session.asked == [REQUEST]


def test_the_meter_is_let_go_when_the_run_fails(clock):
    session, meter = Session(clock), Meter(load)

    def fail(_request, _on_progress):
        raise MeterError("anything")

    session.measure = fail
    with pytest.raises(MeterError), metering.started(meter):
        metering.measure(session, REQUEST, meter, silent)
    assert meter.steps == ["start", "close"]


def test_a_fit_of_one_moment_has_no_drift():
    one = Exchange(
        host_s=5.0, host_monotonic_s=1.0, device_ns=9e9, device_wall_s=6.0, uncertainty_s=0.001
    )
    fit = Fit(before=one, after=one)
    assert fit.drift_ppm == 0
    assert list(fit.device_ns(np.array([5.0, 6.0]))) == [9e9, 10e9]
