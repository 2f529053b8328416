import io

import numpy as np

from edgeq import wire
from edgeq.core import raw
from tests.fakes import tiny_model

RUNTIME = wire.Runtime("litert")


def measure(agent, model=None, **options):
    agent.put("scratch/model.tflite", model or tiny_model.wide_model())
    options = {"processes": 1, "runs": 50, "seconds": 0.2, "warmup_s": 0.1, **options}
    measured = agent.ask(wire.Measure("scratch/model.tflite", "", RUNTIME, **options))
    assert isinstance(measured, wire.Measured), measured
    return measured, agent.payload(measured.payload_bytes)


def test_the_host_accepts_what_was_measured(lasting):
    measured, payload = measure(lasting, processes=2, runs=99)
    checked = raw.read(measured, payload)
    assert len(checked.processes) == 2
    for run in measured.processes:
        assert run.runs - run.warmup_runs >= 50
        assert run.load_ns > 0
        assert run.first_ns > 0
        assert run.delegate == "XNNPACK"
        assert run.peak_rss_bytes > run.baseline_rss_bytes > 1 << 20
    first, last = measured.processes
    assert first.pss_bytes is None
    assert 0 < last.pss_bytes <= last.peak_rss_bytes
    assert [(span.phase, span.process) for span in measured.spans] == [
        ("warmup", 0),
        ("run", 0),
        ("warmup", 1),
        ("run", 1),
    ]


def test_runs_lie_within_their_spans_and_do_not_overlap(lasting):
    measured, payload = measure(lasting)
    numbers = np.frombuffer(payload, "<i8")
    (run,) = measured.processes
    starts, latencies = numbers[: run.runs], numbers[run.runs :]
    warm, timed = (span for span in measured.spans)
    assert warm.start_ns <= starts[0] <= warm.end_ns
    assert timed.start_ns <= starts[run.warmup_runs]
    assert starts[-1] + latencies[-1] <= timed.end_ns
    assert (starts[1:] >= starts[:-1] + latencies[:-1]).all()


def test_exactly_the_runs_are_made_where_no_time_is_asked_for(lasting):
    measured, _ = measure(lasting, runs=37, seconds=0.0)
    (run,) = measured.processes
    assert run.runs - run.warmup_runs == 37


def test_more_runs_than_the_first_room_holds_are_kept(lasting):
    measured, payload = measure(lasting, tiny_model.float_model(), runs=70_000, seconds=0.0)
    (run,) = measured.processes
    assert run.runs - run.warmup_runs == 70_000
    assert (np.frombuffer(payload, "<i8") > 0).all()
    assert run.peak_rss_bytes is not None


def test_what_is_not_there_is_null_with_its_reason(lasting):
    measured, _ = measure(lasting, sample_hz=0.0)
    assert measured.channels == ()
    assert measured.samples == ()
    assert measured.missing["power"] == "not asked for: sample_hz 0"


def test_the_machine_around_the_run_is_told(lasting):
    measured, _ = measure(lasting)
    assert measured.cpu_child_s > 0
    assert 0 < measured.cpu_busy_s <= measured.cpu_total_s
    assert abs(measured.clock_step_s) < 10


def test_progress_is_told_on_the_way(lasting):
    lasting.progress.clear()
    measure(lasting, seconds=0.6)
    assert {progress.phase for progress in lasting.progress} == {"warmup", "run"}
    assert all(0 <= told.done <= told.total for told in lasting.progress if told.phase == "run")


def test_a_golden_input_is_fed(lasting):
    buffer = io.BytesIO()
    np.savez(buffer, **{"0": np.ones((2, 4), np.float32)})
    lasting.put("scratch/in.npz", buffer.getvalue())
    lasting.put("scratch/model.tflite", tiny_model.int8_model())
    request = wire.Measure(
        "scratch/model.tflite",
        "scratch/in.npz",
        RUNTIME,
        processes=1,
        runs=3,
        seconds=0,
        warmup_s=0,
    )
    measured = lasting.ask(request)
    assert isinstance(measured, wire.Measured)
    lasting.payload(measured.payload_bytes)
    lasting.put("scratch/model.tflite", tiny_model.two_in_two_out_model())
    assert lasting.ask(request).kind == "refused"


def test_nothing_to_do_is_refused(lasting):
    lasting.put("scratch/model.tflite", tiny_model.float_model())
    for options in ({"processes": 0}, {"runs": 0}):
        request = wire.Measure("scratch/model.tflite", "", RUNTIME, **options)
        assert lasting.ask(request).kind == "refused"
