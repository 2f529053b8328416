"""Logs of many builds, read liberally and taken strictly."""

from pathlib import Path

import pytest

from edgeq.native import delegates, log, ops
from edgeq.native.log import LogError

LOGS = Path(__file__).parents[1] / "data" / "benchmark_model"


def lines(name):
    return (LOGS / f"{name}.log").read_text().splitlines()


def test_a_newer_build_gives_percentiles_and_memory():
    found = log.parse(lines("cpu-percentiles"))
    stat = found.measured
    assert (stat.count, stat.mean_us, stat.min_us, stat.max_us) == (67, 15517.6, 14661, 17579)
    assert (stat.p5_us, stat.median_us, stat.p95_us) == (14810, 15433, 16502)
    assert (found.load_us, found.first_us, found.warmup.count) == (32163, 19834, 32)
    assert (found.init_mib, found.run_mib, found.peak_mib) == (22.0273, 34.8281, 41.25)


@pytest.mark.parametrize(
    ("name", "count", "mean_us", "load_us", "first_us"),
    [
        ("old-1.13", 50, 137722, 4452, 146161),
        ("average-2.1", 50, 79732, 38467, 83235),
        ("all-same", 50, 12, 1500, 13),
        ("slow-exponents", 50, 1.28835e6, 2210530, 1310044),
        ("logcat", 50, 80660.1, 3100, 91471),
        ("litert", 2112, 464.545, 4478, 1033),
        ("gpu-profile", 108, 8708.66, 355447, 45401),
        ("profile-2.0", 50, 115062, 1892, 91810),
    ],
)
def test_every_build_gives_count_mean_load_and_first(name, count, mean_us, load_us, first_us):
    found = log.parse(lines(name))
    assert found.measured.count == count
    assert found.measured.mean_us == pytest.approx(mean_us)
    assert found.load_us == pytest.approx(load_us)
    assert found.first_us == pytest.approx(first_us)


def test_what_an_old_build_does_not_say_is_none():
    found = log.parse(lines("old-1.13"))
    assert found.measured.median_us is found.measured.p95_us is None
    assert found.peak_mib is found.init_mib is None
    assert log.parse(lines("litert")).peak_mib is None
    assert log.parse(lines("average-2.1")).run_mib == 9.7
    assert log.parse(lines("all-same")).measured.std_us == 0


def test_a_log_that_ends_in_the_warm_up_has_no_latency():
    assert log.parse(lines("truncated")).measured is None
    assert log.parse([]).measured is None


@pytest.mark.parametrize("name", ["contradiction", "impossible"])
def test_a_log_that_contradicts_itself_is_refused(name):
    with pytest.raises(LogError):
        log.parse(lines(name))


@pytest.mark.parametrize("value", ["nan", "-5", "inf"])
def test_a_figure_that_cannot_be_is_refused(value):
    text = f"count=3 first=1 curr=1 min=1 max=9 avg={value} std=1"
    with pytest.raises(LogError):
        log.parse(["count=1 curr=5", text])


def test_the_measured_time_is_that_of_the_second_series():
    read = lines("cpu-percentiles")
    found = log.parse(read, [float(number) for number in range(len(read))])
    start, end = found.window_s
    assert "at least 67 iterations" in read[int(start)]
    assert "count=67" in read[int(end)]
    assert log.parse(read, [None] * len(read)).window_s is None


def test_ops_are_those_of_the_regular_runs():
    found = ops.parse(lines("gpu-profile"))
    assert [one.type for one in found] == [
        "convolution_2d 0 -> relu 1", "Convolution (NHWC, QC8) DWConv", "depth_to_space 5",
    ]  # fmt: skip
    assert [one.mean_ms for one in found] == [0.272, 0.051, 0.631]
    assert [one.calls for one in found] == [1, 13, 1]
    assert found[0].name == "Delegate/convolution_2d 0 -> relu 1:0"
    assert found[0].share == pytest.approx(0.15773)
    assert found[2].memory_kib == 12.5


def test_ops_of_an_older_build_have_a_start_and_blanks_for_tabs():
    first, second = ops.parse(lines("profile-2.0"))
    assert (first.type, first.mean_ms, first.calls) == ("CONV_2D", 7.237, 1)
    assert second.name == "MobilenetV2/expanded_conv/depthwise/Relu6"
    assert second.share == pytest.approx(0.03243)


def test_without_a_table_there_are_no_ops():
    assert ops.parse(lines("cpu-percentiles")) == ()


@pytest.mark.parametrize(
    ("name", "flag", "words"),
    [
        ("nnapi-refused", "--use_nnapi=true", "it took no part of the model"),
        ("gpu-partly", "--use_gpu=true", "it ran 54 of 559 nodes"),
        ("gpu-failed", "--use_gpu=true", "could not be applied"),
        ("gpu-unknown-flag", "--use_gpu=true", "does not know its flag"),
        ("nnapi-reference", "--use_nnapi=true", "only nnapi-reference"),
        ("gpu-not-said", "--use_gpu=true", "is not known"),
        ("gpu-not-said", "--external_delegate_path=/data/local/tmp/x.so", "is not known"),
    ],
)
def test_a_delegate_that_did_not_run_the_model_is_found(name, flag, words):
    read = lines(name)
    unconsumed = log.parse(read).unconsumed
    (found,) = delegates.fallbacks(delegates.parse(read), [flag, "--num_threads=1"], unconsumed)
    assert words in found


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("gpu-profile", ["--use_gpu=true"]),
        ("cpu-percentiles", []),
        ("cpu-percentiles", ["--use_xnnpack=true"]),
        ("gpu-failed", ["--use_gpu=false"]),
        ("old-1.13", []),
    ],
)
def test_what_was_asked_for_and_done_is_no_fallback(name, flags):
    assert list(delegates.fallbacks(delegates.parse(lines(name)), flags, ())) == []


def test_who_ran_the_model_is_told_with_shares():
    assert delegates.used(delegates.parse(lines("gpu-partly"))) == (
        "GPU 54 of 559 nodes, XNNPACK 500 of 506 nodes"
    )
    assert delegates.used(delegates.parse(lines("gpu-profile"))) == "GPU 4 of 4 nodes"
    assert delegates.used(delegates.parse(lines("nnapi-refused"))) == "XNNPACK"
    assert delegates.used(delegates.parse(lines("old-1.13"))) is None
