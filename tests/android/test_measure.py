"""Runs on a phone, their watch and their verdict; the program is a script with a known log."""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.core.inventory import Device
from edgeq.core.parity import Parity
from edgeq.core.profile import RunProtocol
from edgeq.errors import DeviceError, LinkLostError, TrialError
from edgeq.native import delegates, figures, judge, log, run
from edgeq.native.measure import Measured, Process, measure
from edgeq.native.sampler import Readings
from edgeq.native.sensors import Battery

LOGS = Path(__file__).parents[1] / "data" / "benchmark_model"
PROGRAM = "/data/local/tmp/benchmark_model"
QUICK = RunProtocol(
    processes=2, runs=100, seconds=0, warmup_seconds=0, idle_seconds=0, timeout_seconds=20
)
SAME = Parity(samples=8, max_abs_diff=0.0, limit=0.05, identical=True)


def quiet(*_):
    """Progress that nobody looks at."""


@pytest.fixture
def phone(bench):
    return bench.phone()


@pytest.fixture
def link(bench, phone):
    device = Device(name="phone", profile="android", transport="adb", serial=phone.address)
    link = bench.transport().connect(device)
    link.run(["mkdir", "-p", "/data/local/tmp/edgeq"])
    return link


def program(phone, body, path=PROGRAM):
    """Put a program there: lines of shell."""
    file = phone.data.parent / path.lstrip("/")
    file.write_text(f"#!/system/bin/sh\n{body}\n")
    file.chmod(0o755)
    return path


def prints(name):
    """A program that prints a log."""
    return f"cat <<'END-OF-LOG' >&2\n{(LOGS / f'{name}.log').read_text()}END-OF-LOG"


def measured(link, phone, name, hertz=0.0, flags=(), protocol=QUICK):
    path = program(phone, prints(name))
    return measure(link, [path, "--graph=m", *flags], protocol, hertz, quiet)


def test_figures_of_several_processes_are_put_together(link, phone):
    found = measured(link, phone, "cpu-percentiles")
    reckoned = figures.reckon(found)
    latency, missing = reckoned.latency, {one.field: one.reason for one in reckoned.missing}
    assert (latency.runs, latency.warmup_runs) == (134, 64)
    assert latency.mean_ms == pytest.approx(15.5176)
    assert (latency.min_ms, latency.max_ms) == (14.661, 17.579)
    assert latency.p50_ms == 15.433
    assert latency.std_ms == pytest.approx(0.551, rel=0.01)
    assert (latency.load_ms, latency.first_ms) == (32.163, 19.834)
    assert latency.p90_ms is latency.p99_ms is latency.p50_ci_ms is None
    assert reckoned.p90_bound_ms == 16.502
    assert reckoned.memory.peak_rss_mib == 41.25
    assert reckoned.power is None
    assert "no battery" in missing["power"]
    for section in (reckoned.latency, reckoned.memory, reckoned.thermal):
        name = type(section).__name__.removesuffix("Section").lower()
        for field, value in section.model_dump().items():
            assert value is not None or missing[f"{name}.{field}"]
    told = figures.benchmark(found, "tool", None, ("--num_threads=4",))
    assert (told.p5_ms, told.p95_ms) == (14.81, 16.502)
    assert (told.load_growth_mib, told.run_growth_mib) == (22.0273, 34.8281)
    verdict = judge.judge(found, QUICK, SAME, ("--num_threads=4",))
    assert (verdict.status, verdict.reasons) == ("valid", ())


def test_an_old_build_lacks_percentiles_and_memory_with_reasons(link, phone):
    reckoned = figures.reckon(measured(link, phone, "old-1.13"))
    missing = {one.field: one.reason for one in reckoned.missing}
    assert reckoned.latency.p50_ms is None
    assert "no percentiles" in missing["latency.p50_ms"]
    assert "peak memory" in missing["memory.peak_rss_mib"]
    assert reckoned.p90_bound_ms is None


@pytest.mark.parametrize(
    ("name", "flags", "compared", "status", "reason"),
    [
        ("nnapi-refused", ("--use_nnapi=true",), SAME, "invalid", "fallback: nnapi"),
        ("gpu-partly", ("--use_gpu=true",), SAME, "invalid", "fallback: gpu"),
        ("cpu-percentiles", (), "no flag for it", "inconclusive", "parity: not compared: no flag"),
        ("all-same", (), SAME, "valid", None),
        ("litert", (), SAME, "valid", None),
    ],
)
def test_the_verdict_names_what_is_wrong(link, phone, name, flags, compared, status, reason):
    found = measured(link, phone, name, flags=flags)
    verdict = judge.judge(found, QUICK, compared, flags)
    assert verdict.status == status
    assert verdict.reasons == () if reason is None else verdict.reasons[0].startswith(reason)


def test_too_few_runs_and_processes_that_differ(link, phone):
    protocol = QUICK.model_copy(update={"runs": 500})
    verdict = judge.judge(measured(link, phone, "cpu-percentiles"), protocol, SAME, ())
    assert verdict.reasons == ("too-few-runs: 134 of the 500 that were asked for",)
    body = f"[ -e /data/second ] && {{ {prints('average-2.1')}\nexit; }}\n:>/data/second\n"
    path = program(phone, body + prints("old-1.13"))
    found = measure(link, [path], QUICK, 0.0, quiet)
    verdict = judge.judge(found, QUICK, SAME, ())
    assert any("differs by" in one and "between processes" in one for one in verdict.reasons)


def test_a_phone_that_throttles_makes_the_run_invalid(link, phone):
    zone = phone.folder / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-1-0\n")
    (zone / "temp").write_text("48200\n")
    phone.dumpsys("thermalservice", "IsStatusOverride: false\nThermal Status: 2\n")
    path = program(phone, "sleep 1\n" + prints("cpu-percentiles"))
    found = measure(link, [path], QUICK, 10.0, quiet)
    thermal = figures.reckon(found).thermal
    assert (thermal.start_c, thermal.max_c, thermal.throttled) == (48.2, 48.2, True)
    verdict = judge.judge(found, QUICK, SAME, ())
    assert verdict.status == "invalid"
    assert verdict.reasons[0] == (
        "throttled: Android's thermal status was moderate before and moderate after the run"
    )


def test_the_battery_is_read_beside_a_run_with_the_phones_own_time(link, phone):
    phone.battery(status="Discharging", current_now=-400000, voltage_now=4000000)
    begin, end = (LOGS / "cpu-percentiles.log").read_text().split("INFO: count=67")
    body = f"cat >&2 <<'E'\n{begin}E\nsleep 2\ncat >&2 <<'E'\nINFO: count=67{end}E"
    path = program(phone, body)
    protocol = QUICK.model_copy(update={"idle_seconds": 1.0})
    found = measure(link, [path], protocol, 20.0, quiet)
    windows = [one.log.window_s for one in found.processes]
    assert all(end - start > 1.9 for start, end in windows)
    (before, after), rows = found.spans_s, found.readings.rows
    assert before[1] <= windows[0][0] < windows[1][1] <= after[0]
    assert rows[0][0] <= windows[0][0]
    assert rows[-1][0] >= windows[1][1]
    assert {values for _, values in rows} == {("Discharging", "-400000", "4000000")}


def test_energy_per_inference_is_reckoned_from_the_readings():
    """Two processes of 10 s and 67 inferences each at 2.6 W, in a phone that rests at 1.6 W."""
    lines = (LOGS / "cpu-percentiles.log").read_text().splitlines()
    windows = [(20.0, 30.0), (40.0, 50.0)]
    processes = tuple(
        Process(
            log=replace(log.parse(lines), window_s=window), told=delegates.parse(lines), text=""
        )
        for window in windows
    )
    gauge = Battery(name="b", files=("i", "u"), status="s", chargers=(), watts_per=1e-12)
    rows = []
    for tick in range(350):
        time_s = tick / 5
        busy = any(start <= time_s <= end for start, end in windows)
        rows.append((time_s, ("Discharging", "-650000" if busy else "-400000", "4000000")))
    made = Measured(
        processes=processes,
        memory=None,
        ops=(),
        readings=Readings(paths=gauge.paths, rows=tuple(rows)),
        battery=gauge,
        zones={},
        clocks=(),
        spans_s=((2.0, 18.0), (52.0, 68.0)),
        throttle=(None, None),
    )
    reckoned = figures.reckon(made)
    power, missing = reckoned.power, {one.field: one.reason for one in reckoned.missing}
    assert power.mean_w == pytest.approx(2.6)
    assert power.idle_w == pytest.approx(1.6)
    assert power.energy_mj == pytest.approx(2.6 * 20 / 134 * 1e3)
    assert power.energy_net_mj == pytest.approx(1.0 * 20 / 134 * 1e3)
    assert power.sample_hz == pytest.approx(5.0)
    for field, value in power.model_dump().items():
        assert value is not None or missing[f"power.{field}"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -11 $$", "crashed with SIGSEGV"),
        ("kill -9 $$", "out of memory"),
        ("echo 'ERROR: Failed to apply GPU delegate.'; echo 'ERROR: Benchmarking failed.'; exit 1",
         "status 1: ERROR: Failed to apply GPU delegate."),
        (prints("truncated"), "gave no latency"),
        (prints("contradiction"), "cannot be believed"),
        (prints("impossible"), "cannot be believed"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_a_failed_trial(link, phone, body, words):
    path = program(phone, body)
    with pytest.raises(TrialError, match=words):
        measure(link, [path], QUICK, 0.0, quiet)


@pytest.mark.parametrize("mode", [0o644, None])
def test_a_program_that_cannot_run_says_what_it_must_be(link, phone, mode):
    path = program(phone, "exit 0")
    file = phone.data / "local/tmp/benchmark_model"
    if mode is None:
        file.write_bytes(b"\x7fELF" + bytes(60))
    else:
        file.chmod(mode)
    with pytest.raises(DeviceError, match="cannot be run there") as caught:
        run.require_success(run.run(link, "/data/local/tmp", [path], 20), path)
    assert "chmod" in caught.value.hint


def test_a_program_that_hangs_is_ended_there_too(link, phone):
    path = program(phone, "sleep 871")
    with pytest.raises(TrialError, match="did not end within 1 s"):
        run.run(link, "/data/local/tmp", [path], 1.0)
    assert not left_there(phone, "871")


def test_a_program_ends_with_the_connection(link, phone, monkeypatch):
    path = program(phone, "sleep 872")
    monkeypatch.setattr(run, "_SILENCE_S", 0.5)
    with pytest.raises(LinkLostError, match="no sign of life"):
        run.run(link, "/data/local/tmp", [path], 60.0)
    assert not left_there(phone, "872")


def test_output_of_megabytes_is_no_log(link, phone, monkeypatch):
    path = program(phone, "yes")
    monkeypatch.setattr(run, "_MAX_LOG_BYTES", 100_000)
    with pytest.raises(LinkLostError, match="printed more than"):
        run.run(link, "/data/local/tmp", [path], 60.0)
    assert not left_there(phone, "yes")


def left_there(phone, word):
    """Processes of the phone with that word among theirs, once they had time to end."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = [
            entry.name for entry in Path("/proc").glob("[0-9]*") if _is_there(entry, phone, word)
        ]
        if not found:
            return []
        time.sleep(0.2)
    return found


def _is_there(entry, phone, word):
    with contextlib.suppress(OSError):
        mine = Path(f"/proc/{phone.pid}/ns/mnt").readlink()
        words = (entry / "cmdline").read_bytes().split(b"\0")
        return (entry / "ns/mnt").readlink() == mine and word.encode() in words
    return False
