from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import wire
from edgeq.core import power
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor, span

TEN_SECONDS = [[100 * MS] * 100]


def channel(quantity, source="ina3221 VDD_IN", coverage="module", total=True):
    return wire.Channel(quantity, source, coverage, total)


def at(times, shape):
    return [shape(t) for t in times]


def times(start, end, hz=10.0):
    return [start + i / hz for i in range(int((end - start) * hz) + 1)]


def reasons(found):
    return {item.field: item.reason for item in found.missing}


IDLE = (span("idle_before", -5, -0.2), span("idle_after", 10.2, 15))
WHOLE = times(-5, 15)


def test_a_constant_load_over_a_constant_idle_gives_the_energy_by_hand():
    watts = at(WHOLE, lambda t: 5.0 if -0.05 <= t <= 10.05 else 2.0)
    samples = device.samples(
        TEN_SECONDS, sensors=[Sensor(channel("power_w"), watts)], sensor_times_s=WHOLE, spans=IDLE
    )
    found = power.power(samples).section
    assert found.mean_w == pytest.approx(5.0)
    assert found.idle_w == pytest.approx(2.0)
    # 5 W for 10 s over 100 inferences, and 3 W more than idle.
    assert found.energy_mj == pytest.approx(500.0)
    assert found.energy_net_mj == pytest.approx(300.0)
    assert (found.source, found.coverage) == ("ina3221 VDD_IN", "module")
    assert found.sample_hz == pytest.approx(10.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=50), min_size=120, max_size=120))
def test_energy_is_the_trapezoid_rule_between_the_ends_of_the_run(watts):
    moments = times(-0.97, 10.93)
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(channel("power_w"), watts)],
        sensor_times_s=moments,
    )
    found = power.power(samples).section

    def value(t):
        for (a, x), (b, y) in pairwise(zip(moments, watts, strict=True)):
            if a <= t <= b:
                return x + (y - x) * (t - a) / (b - a)
        raise AssertionError

    knots = [0.0, *(t for t in moments if 0 < t < 10), 10.0]
    joules = sum((value(a) + value(b)) / 2 * (b - a) for a, b in pairwise(knots))
    assert found.energy_mj == pytest.approx(joules * 10, rel=1e-6, abs=1e-6)


def test_voltage_times_current_is_power():
    samples = device.samples(
        TEN_SECONDS,
        sensors=[
            Sensor(channel("voltage_v"), [5.0] * 121),
            Sensor(channel("current_a"), [0.8] * 121),
        ],
        sensor_times_s=times(-1, 11),
    )
    assert power.power(samples).section.mean_w == pytest.approx(4.0)


def test_an_energy_counter_is_taken_by_difference():
    moments = times(-1, 11)
    samples = device.samples(
        TEN_SECONDS,
        sensors=[
            Sensor(
                channel("energy_j", "intel-rapl package-0", "package"),
                at(moments, lambda t: 1000 + 7 * t),
            )
        ],
        sensor_times_s=moments,
    )
    found = power.power(samples).section
    assert found.mean_w == pytest.approx(7.0)
    assert found.energy_mj == pytest.approx(700.0)


def test_two_packages_are_added_and_their_cores_are_not():
    moments = times(-1, 11)
    counters = [
        (channel("energy_j", "intel-rapl package-0", "package"), 7),
        (channel("energy_j", "intel-rapl package-1", "package"), 5),
        (channel("energy_j", "intel-rapl core", "rail", total=False), 4),
    ]
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(c, at(moments, lambda t, w=w: 100 + w * t)) for c, w in counters],
        sensor_times_s=moments,
    )
    found = power.power(samples).section
    assert found.mean_w == pytest.approx(12.0)
    assert found.source == "intel-rapl package-0 + intel-rapl package-1"


def test_a_total_is_never_added_to_its_parts():
    rails = [("VDD_IN", 6.0, True), ("VDD_CPU_GPU_CV", 3.0, False), ("VDD_SOC", 2.0, False)]
    samples = device.samples(
        TEN_SECONDS,
        sensors=[
            Sensor(channel("power_w", f"ina3221 {name}", "module", total), [watts] * 121)
            for name, watts, total in reversed(rails)
        ],
        sensor_times_s=times(-1, 11),
    )
    found = power.power(samples).section
    assert (found.mean_w, found.source) == (pytest.approx(6.0), "ina3221 VDD_IN")


def test_the_source_that_covers_more_is_taken():
    samples = device.samples(
        TEN_SECONDS,
        sensors=[
            Sensor(channel("power_w", "intel-rapl package-0", "package"), [3.0] * 121),
            Sensor(channel("power_w", "ina226", "board"), [9.0] * 121),
        ],
        sensor_times_s=times(-1, 11),
    )
    assert power.power(samples).section.source == "ina226"


def test_parts_without_a_total_are_no_power():
    samples = device.samples(
        TEN_SECONDS,
        sensors=[
            Sensor(channel("power_w", f"ina3221 {name}", "rail", total=False), [3.0] * 121)
            for name in ("VDD_GPU_SOC", "VDD_CPU_CV")
        ],
        sensor_times_s=times(-1, 11),
    )
    found = power.power(samples)
    assert found.section is None
    assert "only parts: ina3221 VDD_CPU_CV, ina3221 VDD_GPU_SOC" in reasons(found)["power"]


def test_no_meter_is_none_with_the_devices_reason():
    samples = device.samples(TEN_SECONDS, missing={"power": "the Raspberry Pi 4 has no sensor"})
    found = power.power(samples)
    assert found.section is None
    assert reasons(found) == {"power": "the Raspberry Pi 4 has no sensor"}


def test_a_meter_that_lies_gives_no_power():
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(channel("power_w"), [1e12] * 121)],
        sensor_times_s=times(-1, 11),
    )
    found = power.power(samples)
    assert found.section is None
    assert "1e+12" in reasons(found)["power"]


def test_a_gap_in_the_readings_gives_no_energy():
    moments = [t for t in times(-1, 11) if not 4 < t < 4.6]
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(channel("power_w"), [5.0] * len(moments))],
        sensor_times_s=moments,
    )
    found = power.power(samples)
    assert (found.section.mean_w, found.section.energy_mj) == (None, None)
    assert reasons(found)["power.energy_mj"].startswith("a gap of 0.60 s")


@pytest.mark.parametrize(
    ("moments", "why"),
    [
        (times(2, 11), "a gap of 2.00 s in the readings"),
        (times(-1, 8), "end 2.00 s before that time does"),
    ],
)
def test_readings_that_miss_an_end_of_the_run_give_no_energy(moments, why):
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(channel("power_w"), [5.0] * len(moments))],
        sensor_times_s=moments,
    )
    assert why in reasons(power.power(samples))["power.energy_mj"]


def test_too_few_readings_during_the_run_give_no_energy():
    samples = device.samples(
        [[MS] * 200],
        sensors=[Sensor(channel("power_w"), [5.0] * 121)],
        sensor_times_s=times(-6, 6),
        spans=IDLE,
    )
    found = power.power(samples)
    assert reasons(found)["power.mean_w"] == (
        "3 readings of ina3221 VDD_IN in that time; it takes 10"
    )


def test_without_idle_time_there_is_no_net_energy():
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(channel("power_w"), [5.0] * 121)],
        sensor_times_s=times(-1, 11),
    )
    found = power.power(samples)
    assert found.section.energy_mj == pytest.approx(500.0)
    assert found.section.energy_net_mj is None
    assert reasons(found)["power.idle_w"] == "no time was set apart for it"
    assert "power.energy_net_mj" in reasons(found)


def test_a_run_that_draws_no_more_than_idle_has_no_net_energy():
    samples = device.samples(
        TEN_SECONDS,
        sensors=[Sensor(channel("power_w"), [5.0] * len(WHOLE))],
        sensor_times_s=WHOLE,
        spans=IDLE,
    )
    found = power.power(samples)
    assert found.section.energy_net_mj is None
    assert "no more than the idle" in reasons(found)["power.energy_net_mj"]


def test_every_null_figure_has_a_reason():
    samples = device.samples(
        [[MS] * 20],
        sensors=[Sensor(channel("power_w"), [5.0] * 121)],
        sensor_times_s=times(-6, 6),
    )
    found = power.power(samples)
    empty = {f"power.{k}" for k, v in found.section.model_dump().items() if v is None}
    assert empty == set(reasons(found))


def test_only_the_time_of_the_measured_runs_counts_not_the_warmup_or_the_pauses():
    moments = times(-1, 12)
    watts = at(moments, lambda t: 4.0 if 1.05 < t < 4.95 or 7.05 < t < 10.95 else 100.0)
    samples = device.samples(
        [[100 * MS] * 50] * 2,
        warmup=11,
        pause_ns=1_000 * MS,
        sensors=[Sensor(channel("power_w"), watts)],
        sensor_times_s=moments,
    )
    windows = np.array(samples.windows_ns) / 1e9 - 5000
    assert windows == pytest.approx(np.array([[1.1, 5.0], [7.1, 11.0]]))
    assert power.power(samples).section.mean_w < 8
