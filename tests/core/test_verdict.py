import pytest

from edgeq import wire
from edgeq.core import verdict
from edgeq.core.profile import RunProtocol
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor

PROTOCOL = RunProtocol(processes=3, runs=200, seconds=0)


def judge(
    latencies=None, *, parity_passed=True, providers=(), warmup=0, protocol=PROTOCOL, **options
):
    quiet = latencies or [device.steady(100, seed=i) for i in range(3)]
    samples = device.samples(quiet, warmup=warmup, **options)
    return verdict.judge(
        verdict.Evidence(
            raw=samples, protocol=protocol, parity_passed=parity_passed, providers=providers
        )
    )


def test_a_quiet_run_is_valid():
    found = judge(throttle_before=(), throttle_after=(), clock_step_s=0.01)
    assert (found.status, found.reasons) == ("valid", ())


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"throttle_before": (), "throttle_after": ("occurred:x",)}, "invalid", "throttled"),
        ({"throttle_before": ("x",), "throttle_after": ("x",)}, "invalid", "throttled"),
        ({"parity_passed": False}, "invalid", "parity"),
        ({"providers": ("CUDA", "CPU")}, "invalid", "fallback"),
        (
            {"facts": [{"delegate": "gpu"}, {"delegate": ""}, {"delegate": "gpu"}]},
            "invalid",
            "fallback",
        ),
        ({"latencies": [device.steady(20)] * 3}, "inconclusive", "too-few-runs"),
        ({"latencies": [device.steady(66)] * 3}, "inconclusive", "too-few-runs"),
        ({"latencies": [device.steady(200)] * 2}, "inconclusive", "too-few-runs"),
        ({"facts": [{}, {"warmup_stable": False}, {}]}, "inconclusive", "warm-up"),
        ({"clock_step_s": -3600.0}, "inconclusive", "clock-moved"),
        (
            {
                "cpu_busy_s": 8.0,
                "cpu_total_s": 20.0,
                "cpu_child_s": 5.0,
                "contenders": ("cron", "apt"),
            },
            "inconclusive",
            "cpu-contended",
        ),
        (
            {"latencies": [device.steady(100, ms * MS) for ms in (5, 5, 6)]},
            "inconclusive",
            "unstable",
        ),
        ({"latencies": [device.steady(100, 2_000)] * 3}, "inconclusive", "timer"),
    ],
)
def test_what_spoils_a_run_is_named(options, status, code):
    found = judge(**options)
    assert found.status == status
    assert [reason.split(":")[0] for reason in found.reasons] == [code]


def test_a_device_that_becomes_slower_is_unstable():
    slowing = [int(5 * MS * (1 + i / 800)) for i in range(400)]
    found = judge([slowing] * 3)
    assert found.status == "inconclusive"
    assert found.reasons[0].startswith("unstable: a process became 3")
    assert "slower" in found.reasons[0]


def test_a_device_that_swings_is_unstable():
    swinging = [5 * MS if (i // 25) % 2 else 9 * MS for i in range(400)]
    found = judge([swinging] * 3)
    assert any("swings by" in reason for reason in found.reasons)


def test_the_warmup_does_not_count_against_stability():
    cold = [50 * MS - i * MS for i in range(40)]
    found = judge([cold + device.steady(100, seed=i) for i in range(3)], warmup=40)
    assert found.status == "valid"


def test_contention_names_who_it_was():
    found = judge(
        cpu_busy_s=8.0, cpu_total_s=20.0, cpu_child_s=5.0, contenders=("cron", "apt", "x", "y")
    )
    assert found.reasons == (
        "cpu-contended: other programs took 15% of the device's CPU time (cron, apt, x)",
    )


def test_unknown_cpu_times_are_no_contention():
    assert judge(cpu_busy_s=8.0, cpu_total_s=None, cpu_child_s=5.0).status == "valid"


@pytest.mark.parametrize(("cost_s", "status"), [(0.009, "valid"), (0.05, "inconclusive")])
def test_a_sampler_that_costs_over_one_percent_of_a_core_is_named(cost_s, status):
    found = judge(
        sensors=[Sensor(wire.Channel("temperature_c", "cpu"), [40.0] * 11)],
        sensor_times_s=[i / 10 for i in range(11)],
        sampler_cpu_s=cost_s,
    )
    assert found.status == status


def test_unknown_throttling_and_parity_are_no_fault():
    assert judge(parity_passed=None).status == "valid"


def test_what_is_wrong_stands_before_what_is_doubtful():
    found = judge([device.steady(10)] * 3, parity_passed=False)
    assert found.status == "invalid"
    assert [reason.split(":")[0] for reason in found.reasons] == ["parity", "too-few-runs"]


def placed(**nodes):
    return {"placements": tuple(wire.Placement(name, count) for name, count in nodes.items())}


TENSORRT = ("TensorRT", "CUDA", "CPU")


@pytest.mark.parametrize(
    ("providers", "runs", "reasons"),
    [
        (("CPU",), [{}] * 3, ()),
        (("CPU",), [placed(CPU=9)] * 3, ()),
        (("CUDA", "CPU"), [placed(CUDA=9)] * 3, ()),
        (TENSORRT, [placed(TensorRT=1)] * 3, ()),
        (TENSORRT, [placed(TensorRT=1, CUDA=2)] * 3, ()),
        (("CUDA", "CPU"), [placed(CPU=9)] * 3, ("CUDA was asked for, CPU ran 9 of 9 nodes",)),
        (
            ("XNNPACK", "CPU"),
            [placed(XNNPACK=7, CPU=2)] * 3,
            ("XNNPACK was asked for, CPU ran 2 of 9 nodes",),
        ),
        (TENSORRT, [placed(CUDA=9)] * 3, ("TensorRT was asked for, CUDA ran 9 of 9 nodes",)),
        (
            TENSORRT,
            [placed(TensorRT=1), placed(TensorRT=1), placed(CPU=9)],
            ("TensorRT was asked for, CPU ran 9 of 9 nodes",),
        ),
        (("CUDA",), [{}] * 3, ("CUDA was asked for, what ran is not known",)),
        (("CUDA",), [placed(CUDA=0)] * 3, ("CUDA was asked for, what ran is not known",)),
    ],
)
def test_a_provider_that_was_passed_over_makes_the_run_invalid(providers, runs, reasons):
    found = judge(providers=providers, facts=runs)
    assert found.reasons == tuple(f"fallback: {words}" for words in reasons)
    assert found.status == ("invalid" if reasons else "valid")
