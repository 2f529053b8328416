import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import wire
from edgeq.core import raw
from edgeq.errors import AgentError
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor


def test_each_process_gets_its_own_starts_and_latencies():
    samples = device.samples([[3 * MS, 4 * MS], [5 * MS, 6 * MS, 7 * MS]], warmup=1)
    assert samples.processes[1].latencies_ns.tolist() == [5 * MS, 6 * MS, 7 * MS]
    assert samples.processes[1].measured_ns.tolist() == [6 * MS, 7 * MS]
    start, end = samples.processes[1].window_ns
    assert end - start == 13 * MS


@given(st.binary(max_size=400))
def test_a_payload_of_another_size_is_refused(data):
    measured, payload = device.measure([[MS] * 5])
    if len(data) == len(payload):
        return
    with pytest.raises(AgentError, match="bytes of raw samples for 5 runs"):
        raw.read(measured, data)


@given(
    st.integers(min_value=0, max_value=19),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
)
def test_no_number_in_the_payload_gives_anything_but_samples_or_a_refusal(place, number):
    measured, payload = device.measure([[MS] * 10])
    numbers = np.frombuffer(payload, "<i8").copy()
    numbers[place] = number
    try:
        samples = raw.read(measured, numbers.tobytes())
    except AgentError:
        return
    assert (samples.processes[0].latencies_ns > 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": 5, "warmup_runs": 5}, "5 of them warm-up"),
        ({"runs": 5, "warmup_runs": -1}, "-1 of them warm-up"),
        ({"load_ns": 0}, "load in 0 ns"),
        ({"first_ns": -3}, "first inference in -3 ns"),
        ({"peak_rss_bytes": -1}, "memory or CPU time of -1"),
        ({"placements": (wire.Placement("CPU", -1),)}, "-1 nodes on 'CPU'"),
        ({"placements": (wire.Placement("\x1b[2J", 1),)}, "a delegate called"),
        ({"delegate": "x" * 1000}, "a delegate called 'xxx"),
    ],
)
def test_impossible_facts_of_a_process_are_refused(changes, words):
    measured, payload = device.measure([[MS] * 5])
    run = dataclasses.replace(measured.processes[0], **changes)
    with pytest.raises(AgentError, match=words):
        raw.read(dataclasses.replace(measured, processes=(run,)), payload)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"processes": ()}, "no process ran"),
        ({"cpu_busy_s": math.nan}, "nan s of CPU time"),
        ({"sampler_cpu_s": -1.0}, "-1.0 s of CPU time"),
        ({"clock_step_s": math.inf}, "a clock step of inf"),
        ({"spans": (wire.Span("run", 5, 4),)}, "a span 'run'"),
        ({"spans": (wire.Span("party", 4, 5),)}, "a span 'party'"),
        ({"samples": ((1.0, 2.0),)}, "has not 1 values"),
        ({"samples": ((2.0,), (1.0,))}, "do not rise"),
        ({"samples": ((math.nan,),)}, "do not rise"),
    ],
)
def test_impossible_measurements_are_refused(changes, words):
    measured, payload = device.measure([[MS] * 5])
    with pytest.raises(AgentError, match=words) as caught:
        raw.read(dataclasses.replace(measured, **changes), payload)
    assert caught.value.hint


def test_overlapping_inferences_are_refused():
    measured, payload = device.measure([[5 * MS] * 4])
    numbers = np.frombuffer(payload, "<i8").copy()
    numbers[2] -= MS
    with pytest.raises(AgentError, match="overlap"):
        raw.read(measured, numbers.tobytes())


@pytest.mark.parametrize(
    ("quantity", "values", "words"),
    [
        ("power_w", [5.0, 1e12], "power_w = 1e+12"),
        ("power_w", [5.0, -1.0], "power_w = -1"),
        ("power_w", [5.0, math.nan], "power_w = nan"),
        ("temperature_c", [-256.0, -256.0], "temperature_c = -256"),
        ("energy_j", [5.0, 4.0], "went backwards"),
        ("happiness", [1.0, 2.0], "is no quantity"),
    ],
)
def test_a_channel_that_cannot_be_true_is_refused_and_the_rest_is_kept(quantity, values, words):
    samples = device.samples(
        [device.steady(50)],
        sensors=[
            Sensor(wire.Channel(quantity, "liar"), values),
            Sensor(wire.Channel("temperature_c", "honest"), [40.0, 41.0]),
        ],
        sensor_times_s=[0.0, 0.1],
    )
    assert [column.channel.source for column in samples.columns] == ["honest"]
    assert samples.refused[0].startswith("liar: refused")
    assert words in samples.refused[0]


def test_values_that_were_not_read_are_left_out():
    samples = device.samples(
        [device.steady(50)],
        sensors=[Sensor(wire.Channel("power_w", "meter"), [1.0, None, 3.0])],
        sensor_times_s=[0.0, 0.1, 0.2],
    )
    assert samples.columns[0].values.tolist() == [1.0, 3.0]
    assert samples.refused == ()


def test_packed_samples_come_back_the_same():
    measured, payload = device.measure(
        [device.steady(20)],
        sensors=[Sensor(wire.Channel("power_w", "meter", total=True), [1.0, None])],
        sensor_times_s=[0.0, 0.1],
        throttle_before=("x",),
    )
    back = raw.unpack(raw.pack(measured, payload))
    assert back.measured == measured
    assert back.processes[0].latencies_ns.tolist() == device.steady(20)


@given(st.binary(max_size=300))
def test_damaged_packed_samples_are_an_error(data):
    with pytest.raises(AgentError):
        raw.unpack(data)
