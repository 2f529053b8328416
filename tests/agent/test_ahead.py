"""Model processes that are started before they are needed."""

import io
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from edgeq import wire
from edgeq.agent import children as children_
from edgeq.agent import memory
from edgeq.agent.ahead import Ahead
from tests.fakes import tiny_model

RUNTIME = wire.Runtime("litert")
FAKE = Path(__file__).parents[1] / "fakes" / "tflite_runtime"
CPU = min(os.sched_getaffinity(0))


@pytest.fixture
def device(agent):
    buffer = io.BytesIO()
    np.savez(buffer, **{"0": np.zeros((2, 4), np.float32)})
    agent.put("scratch/model.tflite", tiny_model.float_model())
    agent.put("scratch/in.npz", buffer.getvalue())
    return agent


def children(agent):
    """The numbers of the agent's own processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == agent.process.pid and words[0] != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def start(agent, count=3, **options):
    assert agent.ask(wire.Ahead(RUNTIME, count, **options)) == wire.Done()
    return children(agent)


def predict(agent):
    return agent.ask(
        wire.Predict("scratch/model.tflite", "scratch/in.npz", "scratch/out.npz", RUNTIME)
    )


def measure(agent, **options):
    options = {"runs": 5, "seconds": 0.0, "warmup_s": 0.0, **options}
    measured = agent.ask(wire.Measure("scratch/model.tflite", "", RUNTIME, **options))
    assert isinstance(measured, wire.Measured), measured
    agent.payload(measured.payload_bytes)
    return measured


def gone(process, seconds=10.0):
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not Path(f"/proc/{process}").exists()


def test_each_serves_one_request(device):
    before = start(device)
    assert len(before) == 3
    assert predict(device).samples == 2
    assert children(device) == before[1:]
    measure(device, processes=2)
    assert children(device) == []


def test_what_is_missing_is_started_as_always(device):
    start(device, 1)
    assert len(measure(device, processes=3).processes) == 3


def test_one_that_was_killed_meanwhile_spoils_nothing(device):
    killed, *others = start(device)
    os.kill(killed, signal.SIGKILL)
    end = time.monotonic() + 10
    while killed in children(device) and time.monotonic() < end:
        time.sleep(0.02)
    assert predict(device).samples == 2
    assert children(device) == others[1:]


def test_what_nobody_needed_ends_with_the_session(device):
    started = start(device)
    assert device.end() == 0
    assert all(map(gone, started))


def test_they_end_when_the_agent_is_killed(device):
    started = start(device)
    device.kill()
    assert all(map(gone, started))


def test_another_runtime_or_other_cpus_get_fresh_ones(device):
    started = start(device, 1, cpus=(CPU,))
    assert os.sched_getaffinity(started[0]) == {CPU}
    measure(device, processes=1)
    assert children(device) == started
    measured = measure(device, processes=1, cpus=(CPU,))
    assert measured.cpus == (CPU,)
    assert children(device) == []


def test_a_runtime_that_does_not_import_is_told_by_the_request(device):
    runtime = wire.Runtime("tflite_runtime", paths=("runtimes/none",))
    assert device.ask(wire.Ahead(runtime, 2)) == wire.Done()
    answer = device.ask(
        wire.Predict("scratch/model.tflite", "scratch/in.npz", "scratch/out.npz", runtime)
    )
    assert isinstance(answer, wire.Failed)
    assert answer.kind == "runtime"


def test_the_time_of_importing_is_no_part_of_the_run(device):
    folder = device.root / "runtimes/slow/tflite_runtime"
    shutil.copytree(FAKE, folder)
    burn = "import time\nwhile time.process_time() < 1.0: pass\n"
    with (folder / "__init__.py").open("a") as file:
        file.write(burn)
    runtime = wire.Runtime("tflite_runtime", paths=("runtimes/slow",))
    device.put("scratch/fine", b"fine")
    assert device.ask(wire.Ahead(runtime, 2)) == wire.Done()
    options = {"processes": 2, "runs": 5, "seconds": 0.0, "warmup_s": 0.0}
    measured = device.ask(wire.Measure("scratch/fine", "", runtime, **options))
    assert isinstance(measured, wire.Measured), measured
    device.payload(measured.payload_bytes)
    used_s = sum(run.cpu_ns for run in measured.processes) / 1e9
    assert used_s > 2.0
    assert measured.cpu_child_s < used_s - 1.9


def test_pss_is_told_by_the_last_alone_which_shares_nothing_with_others_that_wait(device):
    start(device, 2)
    first, last = measure(device, processes=2).processes
    assert first.pss_bytes is None
    assert last.pss_bytes > 0


def test_a_model_that_needs_their_memory_gets_it(device):
    """It is tried again without them; here its own limit stands for the machine's."""
    started = start(device, 3)
    answer = device.ask(
        wire.Predict(
            "scratch/model.tflite", "scratch/in.npz", "scratch/out.npz", RUNTIME, memory_mib=1
        )
    )
    assert isinstance(answer, wire.Failed)
    assert answer.kind == "memory"
    assert all(map(gone, started))
    assert predict(device).samples == 2


@pytest.mark.parametrize(("available_mib", "started"), [(None, 0), (100, 0), (400, 2), (9000, 3)])
def test_a_device_short_of_memory_gets_fewer(
    tmp_path, archive, monkeypatch, available_mib, started
):
    monkeypatch.setattr(children_, "ARCHIVE", archive)
    (tmp_path / "proc").mkdir()
    if available_mib is not None:
        text = f"MemAvailable: {available_mib << 10} kB\n"
        (tmp_path / "proc/meminfo").write_text(text)
    ahead = Ahead(tmp_path, tmp_path)
    try:
        ahead.start(wire.Ahead(RUNTIME, 3))
        taken = [ahead.take(wire.Predict("", "", "", RUNTIME), RUNTIME) for _ in range(3)]
        alive = [process for process in taken if process is not None]
        assert len(alive) == started
    finally:
        ahead.close()
        for process in alive:
            children_.kill(process)


def test_what_is_available_is_read(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    600 kB\n")
    assert memory.available_bytes(tmp_path) == 600 << 10
