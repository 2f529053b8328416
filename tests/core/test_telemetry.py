import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import wire
from edgeq.core import telemetry
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor


def brute_percentile(values, percent):
    """Hyndman and Fan's definition 7, written out."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(
    st.lists(st.integers(min_value=1, max_value=10**12), min_size=1, max_size=200),
    st.sampled_from([0, 2.5, 10, 50, 90, 97.5, 99, 100]),
)
def test_a_percentile_is_definition_7_of_hyndman_and_fan(values, percent):
    found = telemetry.percentile(np.array(values), percent)
    assert found == pytest.approx(brute_percentile(values, percent), rel=1e-12)


@given(
    st.lists(
        st.lists(st.integers(min_value=1, max_value=10**9), min_size=1, max_size=40),
        min_size=1,
        max_size=4,
    )
)
def test_mean_deviation_and_range_are_those_of_all_processes_together(latencies):
    found = telemetry.latency(device.samples(latencies)).section
    flat = [value / 1e6 for own in latencies for value in own]
    mean = sum(flat) / len(flat)
    assert found.runs == len(flat)
    assert found.mean_ms == pytest.approx(mean)
    assert (found.min_ms, found.max_ms) == (min(flat), max(flat))
    assert found.p50_ms == pytest.approx(brute_percentile(flat, 50))
    if len(flat) > 1:
        variance = sum((value - mean) ** 2 for value in flat) / (len(flat) - 1)
        assert found.std_ms == pytest.approx(variance**0.5, abs=1e-9)
    else:
        assert found.std_ms is None


def test_warmup_runs_are_counted_but_not_reckoned_with():
    slow, quick = [50 * MS] * 5, [2 * MS] * 100
    found = telemetry.latency(device.samples([slow + quick] * 3, warmup=5)).section
    assert (found.runs, found.warmup_runs, found.max_ms) == (300, 15, 2.0)


@pytest.mark.parametrize(("runs", "known"), [(999, False), (1000, True)])
def test_p99_is_not_known_below_a_thousand_runs(runs, known):
    found = telemetry.latency(device.samples([device.steady(runs)]))
    assert (found.section.p99_ms is not None) == known
    reasons = {item.field: item.reason for item in found.missing}
    assert reasons.get("latency.p99_ms") == (None if known else "999 runs; it takes 1000")


def test_load_and_first_inference_are_medians_over_the_processes():
    facts = [{"load_ns": ms * MS, "first_ns": 2 * ms * MS} for ms in (10, 90, 20)]
    found = telemetry.latency(device.samples([device.steady(50)] * 3, facts=facts)).section
    assert (found.load_ms, found.first_ms) == (20.0, 40.0)


def test_the_interval_of_p50_is_the_same_for_the_same_samples():
    processes = device.samples([device.steady(200, seed=i) for i in range(3)]).processes
    assert telemetry.p50_interval_ms(processes) == telemetry.p50_interval_ms(processes)


def test_the_interval_holds_p50_and_widens_when_processes_differ():
    alike = device.samples([device.steady(200, seed=i) for i in range(3)])
    apart = device.samples([device.steady(200, (5 + i) * MS, seed=i) for i in range(3)])
    for samples in (alike, apart):
        section = telemetry.latency(samples).section
        low, high = section.p50_ci_ms
        assert low <= section.p50_ms <= high
    low, high = telemetry.p50_interval_ms(apart.processes)
    assert low < 5.2
    assert high > 6.8
    low, high = telemetry.p50_interval_ms(alike.processes)
    assert high - low < 0.05


def test_there_is_no_interval_of_too_few_blocks():
    found = telemetry.latency(device.samples([device.steady(20)]))
    assert found.section.p50_ci_ms is None
    assert "latency.p50_ci_ms" in {item.field for item in found.missing}


def test_the_interval_covers_the_true_median_of_autocorrelated_runs():
    # AR(1) with 0.7 around 5 ms: an interval that took runs for independent would cover about 60 %.
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(60):
        noise = generator.normal(0, 1, 400)
        series = np.zeros(400)
        for i in range(1, 400):
            series[i] = 0.7 * series[i - 1] + noise[i]
        latencies = (5 * MS + series * 50_000).astype(np.int64).tolist()
        low, high = telemetry.p50_interval_ms(device.samples([latencies]).processes)
        covered += low <= 5.0 <= high
    assert covered >= 50


def test_many_runs_give_the_same_interval_as_an_exact_search_within_its_resolution():
    latencies = device.steady(20_000, seed=3)
    low, high = telemetry.p50_interval_ms(device.samples([latencies]).processes)
    middle = brute_percentile([value / 1e6 for value in latencies], 50)
    assert low <= middle <= high
    assert high - low < 0.005


def test_peak_memory_is_the_largest_and_the_others_are_medians():
    facts = [
        {"peak_rss_bytes": p << 20, "pss_bytes": p << 19, "baseline_rss_bytes": p << 18}
        for p in (40, 80, 60)
    ]
    found = telemetry.memory(device.samples([device.steady(10)] * 3, facts=facts)).section
    assert (found.peak_rss_mib, found.pss_mib, found.baseline_rss_mib) == (80.0, 30.0, 15.0)


def test_unknown_memory_is_none_with_the_devices_own_reason():
    facts = [{"peak_rss_bytes": None, "pss_bytes": None, "baseline_rss_bytes": None}]
    samples = device.samples(
        [device.steady(10)], facts=facts, missing={"pss": "kernel 4.9 has no smaps_rollup"}
    )
    found = telemetry.memory(samples)
    assert found.section.peak_rss_mib is None
    reasons = {item.field: item.reason for item in found.missing}
    assert reasons["memory.pss_mib"] == "kernel 4.9 has no smaps_rollup"


def temperature(source, values):
    return Sensor(wire.Channel("temperature_c", source), values)


def test_temperature_is_that_of_the_sensor_that_became_hottest():
    times = [i / 10 for i in range(6)]
    samples = device.samples(
        [device.steady(100)],
        sensors=[
            temperature("thermal cpu", [40.0, 42, 45, 60, 61, 59]),
            temperature("thermal board", [50.0, 50, 50, 50, 50, 50]),
        ],
        sensor_times_s=times,
    )
    found = telemetry.thermal(samples).section
    assert (found.start_c, found.max_c) == (40.0, 61.0)


def test_frequency_is_taken_while_the_model_runs():
    samples = device.samples(
        [[100 * MS] * 10],
        sensors=[
            Sensor(wire.Channel("frequency_mhz", "cpu0"), [600.0, 1500.0, 1400.0, 600.0]),
            Sensor(wire.Channel("frequency_mhz", "cpu1"), [600.0, None, 1450.0, 600.0]),
        ],
        sensor_times_s=[-0.5, 0.1, 0.9, 1.5],
    )
    found = telemetry.thermal(samples).section
    assert (found.frequency_min_mhz, found.frequency_max_mhz) == (1400.0, 1500.0)


def test_no_sensor_is_none_not_zero():
    found = telemetry.thermal(device.samples([device.steady(10)]))
    assert found.section.model_dump(exclude_defaults=True) == {}
    assert len(found.missing) == 8


@pytest.mark.parametrize(
    ("before", "after", "expected", "flags"),
    [
        (None, (), None, ()),
        ((), None, None, ()),
        ((), (), False, ()),
        (("occurred:under-voltage",), ("occurred:under-voltage",), False, ()),
        ((), ("occurred:throttled",), True, ("occurred:throttled",)),
        (("throttled",), (), True, ("throttled",)),
        ((), ("under-voltage",), True, ("under-voltage",)),
    ],
)
def test_throttled_means_a_flag_now_or_a_new_sticky_one(before, after, expected, flags):
    samples = device.samples([device.steady(10)], throttle_before=before, throttle_after=after)
    assert telemetry.throttled(samples) is expected
    if expected is not None:
        assert telemetry.throttle_flags(samples) == flags
