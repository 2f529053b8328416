"""Energy over windows: known integrals, intervals that hold what they promise, and honest nulls."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import wire
from edgeq.core import energy, power
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor, span

HZ = 10.0


def times(start, end, hz=HZ):
    return [start + i / hz for i in range(round((end - start) * hz) + 1)]


def channel(quantity="power_w", source="ina3221 VDD_IN", coverage="module", shunt_ohm=None):
    return wire.Channel(quantity, source, coverage, quantity == "power_w", shunt_ohm)


def run(shape, *, seconds=50, processes=1, idle=(5.0, 5.0), pause_s=1, hz=HZ, **options):
    """A load whose watts are ``shape(t)``, t from the first inference; 100 ms an inference."""
    each = seconds * 10 // processes
    length = seconds + (processes - 1) * pause_s
    before, after = idle
    moments = times(-before - 0.5, length + after + 0.5, hz)
    spans = [span("idle_before", -before - 0.2, -0.2)] * (before > 0)
    spans += [span("idle_after", length + 0.2, length + 0.2 + after)] * (after > 0)
    return device.samples(
        [[100 * MS] * each] * processes,
        pause_ns=pause_s * 1000 * MS,
        sensors=[Sensor(channel(), [shape(t) for t in moments])],
        sensor_times_s=moments,
        spans=spans,
        **options,
    )


def reasons(found):
    return {item.field: item.reason for item in found.missing}


def test_steps_and_ramps_come_out_within_one_percent_of_their_integral():
    def steps(t):
        return 3.0 + (4.0 if int(t / 7) % 2 else 0.0)

    def ramp(t):
        return 2.0 + 0.1 * max(t, 0.0)

    def exact(shape):
        fine = np.linspace(0, 50, 500_001)
        return float(np.trapezoid([shape(t) for t in fine], fine)) / 500 * 1e3

    for shape in (steps, ramp, lambda t: 5 + 2 * math.sin(t)):
        found = power.power(run(shape)).section
        assert found.energy_mj == pytest.approx(exact(shape), rel=0.01)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.8, 9.0), st.floats(0.5, 40.0)), min_size=60, max_size=60),
    processes=st.integers(1, 3),
)
def test_any_staircase_comes_out_within_one_percent_at_the_samplers_rate(steps, processes):
    edges = np.cumsum([seconds for seconds, _ in steps]) - 6.0
    levels = np.array([watts for _, watts in steps])

    def shape(t):
        return float(levels[min(int(np.searchsorted(edges, t, side="right")), len(levels) - 1)])

    found = run(shape, seconds=48, processes=processes, hz=50.0)
    windows = np.array(found.windows_ns) / 1e9 - 5000
    exact = 0.0
    for start, end in windows:
        knots = np.concatenate([[start], edges[(edges > start) & (edges < end)], [end]])
        middles = (knots[1:] + knots[:-1]) / 2
        exact += float(np.sum(np.diff(knots) * [shape(t) for t in middles]))
    joules = power.power(found).section.energy_mj * 480 / 1e3
    # A step between two readings is misjudged by half a period at most.
    slack = 0.01 * float(np.abs(np.diff(levels)).sum())
    assert joules == pytest.approx(exact, rel=0.01, abs=slack)


def test_windows_divide_the_measured_time_and_all_inferences():
    found = run(lambda _: 4.0, seconds=54, processes=3, pause_s=7)
    section = power.power(found).section
    assert (section.windows, section.window_s) == (5, pytest.approx(10.8))
    (meter,) = power.meters(found)
    windows = energy.cut(meter, found.processes, 10.0)
    assert sum(windows.inferences) == pytest.approx(540)
    assert windows.joules == pytest.approx([4 * 10.8] * 5)
    assert windows.inferences == pytest.approx([108] * 5)


def test_a_window_that_spans_two_processes_leaves_out_what_lies_between_them():
    between = 50.0
    found = run(lambda t: between if 25 < t < 32 else 4.0, seconds=50, processes=2, pause_s=7)
    section = power.power(found).section
    assert section.windows == 5
    # The steep flanks are interpolated within a period on either side.
    assert section.mean_w == pytest.approx(4.0, rel=0.06)


def test_a_steady_load_has_a_narrow_interval_around_its_energy():
    noise = np.random.default_rng(3)
    section = power.power(
        run(lambda t: (5.0 if 0 <= t <= 50 else 2.0) + noise.normal(0, 0.05))
    ).section
    low, high = section.energy_ci_mj
    assert low < section.energy_mj < high
    assert high - low < 0.02 * section.energy_mj
    low, high = section.energy_net_ci_mj
    assert low < 300 < high
    assert section.idle_drift_w == pytest.approx(0.0, abs=0.1)


def covered(net, runs=150):
    """How often an interval holds the truth; some of the noise lasts for seconds."""
    generator = np.random.default_rng(11)
    moments = times(-6, 56.5, 2.0)
    inside = 0
    for _ in range(runs):
        slow = np.interp(moments, times(-10, 60, 0.2), generator.normal(0, 0.1, 15))
        watts = [
            (5.0 if -0.01 <= t <= 50.01 else 2.0) + w + e
            for t, w, e in zip(moments, slow, generator.normal(0, 0.2, len(moments)), strict=True)
        ]
        found = device.samples(
            [[100 * MS] * 500],
            sensors=[Sensor(channel(), [max(0.0, w) for w in watts])],
            sensor_times_s=moments,
            spans=[span("idle_before", -5.5, -0.5), span("idle_after", 50.5, 55.5)],
        )
        (meter,) = power.meters(found)
        windows = energy.cut(meter, found.processes, 10.0)
        if net:
            idle = energy.idle(meter, [(4994.5, 4999.5)], [(5050.5, 5055.5)])
            low, high = energy.net_interval_mj(windows, idle)
            inside += low <= 300 <= high
        else:
            low, high = energy.gross_interval_mj(windows)
            inside += low <= 500 <= high
    return inside / runs


@pytest.mark.parametrize("net", [False, True])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(net):
    assert 0.90 <= covered(net) <= 0.999


def test_a_short_run_says_short_and_has_no_interval():
    found = power.power(run(lambda t: 5.0 if 0 <= t <= 10 else 2.0, seconds=10))
    assert found.section.energy_mj == pytest.approx(500, rel=0.01)
    assert found.section.energy_ci_mj is found.section.energy_net_ci_mj is None
    why = "short: 1 of 10 s; an interval takes 5 windows of 10 s"
    assert reasons(found)["power.energy_ci_mj"] == why
    assert reasons(found)["power.energy_net_ci_mj"] == why


def test_windows_with_few_readings_have_no_interval():
    found = power.power(run(lambda _: 5.0, hz=2.0))
    assert reasons(found)["power.energy_ci_mj"] == ("short: 21 readings in a window; it takes 50")


def test_the_profile_may_ask_for_more_windows():
    method = power.Method(windows=8, window_s=12.0)
    found = power.power(run(lambda _: 5.0), method)
    assert found.section.windows == 4
    assert reasons(found)["power.energy_ci_mj"] == (
        "short: 4 of 12 s; an interval takes 8 windows of 12 s"
    )


def test_an_idle_level_that_drifts_widens_the_net_interval():
    def shape(drift):
        return lambda t: 6.0 if 0 <= t <= 50 else 2.0 + (drift if t > 50 else 0.0)

    widths = []
    for drift in (0.0, 0.6):
        section = power.power(run(shape(drift))).section
        assert section.idle_drift_w == pytest.approx(drift, abs=1e-6)
        low, high = section.energy_net_ci_mj
        widths.append(high - low)
    assert widths[0] < 1e-6
    # Two observations of one level: half of their difference is the standard error of their mean.
    assert widths[1] == pytest.approx(2 * 2.306 * 0.6 / 2 * 100, rel=0.01)


def test_idle_time_on_one_side_only_has_no_drift():
    found = power.power(run(lambda t: 5.0 if t >= -0.1 else 2.0, idle=(5.0, 0.0)))
    assert found.section.idle_w == pytest.approx(2.0)
    assert reasons(found)["power.idle_drift_w"] == "idle time on one side of the run only"
    assert found.section.energy_net_ci_mj is not None


def test_a_meter_that_reads_less_than_nothing_has_no_energy():
    found = power.power(run(lambda _: -0.2))
    assert found.section.mean_w is found.section.energy_mj is None
    assert "its shunt may be turned round" in reasons(found)["power.energy_mj"]


def test_the_longest_gap_is_told():
    moments = [t for t in times(-1, 51) if not 20.05 < t < 20.25]
    found = device.samples(
        [[100 * MS] * 500],
        sensors=[Sensor(channel(), [5.0] * len(moments))],
        sensor_times_s=moments,
    )
    section = power.power(found).section
    assert section.gap_max_s == pytest.approx(0.3)
    assert section.energy_mj == pytest.approx(500)


def of_rail(volts, amperes, source="ina3221 VDD_IN", shunt_ohm=0.005):
    moments = times(-1, 51)
    parts = [
        (channel("power_w", source, shunt_ohm=shunt_ohm), volts * amperes),
        (channel("voltage_v", source), volts),
        (channel("current_a", source), amperes),
    ]
    return device.samples(
        [[100 * MS] * 500],
        sensors=[Sensor(c, [value] * len(moments)) for c, value in parts],
        sensor_times_s=moments,
    )


def test_the_accuracy_is_the_data_sheets_for_this_load_and_shunt():
    section = power.power(of_rail(5.0, 1.0)).section
    # 0.25 % + 0.25 % of gain, 80 uV of 5 mV, 16 mV of 5 V.
    assert section.uncertainty_percent == pytest.approx(0.5 + 1.6 + 0.32)
    light = power.power(of_rail(5.0, 0.1)).section
    assert light.uncertainty_percent == pytest.approx(0.5 + 16 + 0.32)


@pytest.mark.parametrize(
    ("source", "shunt_ohm", "why"),
    [
        ("ina3221 VDD_IN", None, "the resistance of the shunt is not known"),
        ("rapl psys", 0.005, "Intel and AMD promise no accuracy"),
        ("power_supply battery", None, "no battery gauge says"),
        ("pmic_read_adc, sum of 12 rails", None, "Raspberry Pi promises no accuracy"),
        ("somebody's meter", None, "not known to edgeq"),
    ],
)
def test_an_accuracy_that_is_not_known_is_null_with_its_reason(source, shunt_ohm, why):
    found = power.power(of_rail(5.0, 1.0, source, shunt_ohm))
    assert found.section.uncertainty_percent is None
    assert why in reasons(found)["power.uncertainty_percent"]


def test_a_devices_own_sensor_has_the_devices_clock():
    section = power.power(run(lambda _: 5.0)).section
    assert (section.clock_offset_s, section.clock_uncertainty_s, section.clock_drift_ppm) == (
        0,
    ) * 3


@pytest.mark.parametrize(
    ("mean_w", "rest_w", "drift_w", "why"),
    [
        (4.100000000000116, 4.1000000000000005, 0.0, "the run drew no more than the idle device"),
        (4.0, 4.1, 0.0, "the run drew no more than the idle device"),
        (8.0, 6.1, 1.8, ""),
        (8.0, 6.1, None, ""),
        (8.0, 6.1, -4.2, "the idle device drew -4.2 W after the run against before it, and the run"
         " itself only 1.9 W more than it"),
        (None, 6.1, 4.2, ""),
    ],
)  # fmt: skip
def test_power_at_rest_is_taken_off_only_where_it_is_known_well_enough(
    mean_w, rest_w, drift_w, why
):
    rest = energy.Idle(watts=rest_w, drift_w=drift_w, error_w=None, freedom=0)
    assert energy.why_no_net(mean_w, rest, "device") == why
