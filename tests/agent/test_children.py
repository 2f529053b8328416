import io
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from edgeq import wire
from edgeq.agent.memory import oom_kills

FAKE = Path(__file__).parents[1] / "fakes" / "tflite_runtime"
RUNTIME = wire.Runtime("tflite_runtime", paths=("runtimes/fake",))


def prepared(agent):
    """An agent whose runtime misbehaves on demand, and one good input."""
    folder = agent.root / "runtimes/fake/tflite_runtime"
    if not folder.exists():
        shutil.copytree(FAKE, folder)
        buffer = io.BytesIO()
        np.savez(buffer, **{"0": np.array([[1, 2], [3, 4]], np.float32)})
        agent.put("scratch/in.npz", buffer.getvalue())
    return agent


@pytest.fixture
def device(lasting):
    return prepared(lasting)


@pytest.fixture
def doomed(agent):
    return prepared(agent)


def predict(device, word, **options):
    device.put("scratch/model", word.encode())
    return device.ask(
        wire.Predict("scratch/model", "scratch/in.npz", "scratch/out.npz", RUNTIME, **options)
    )


def measure(device, word, **options):
    device.put("scratch/model", word.encode())
    options = {"processes": 1, "runs": 5, "seconds": 0.0, "warmup_s": 0.0, **options}
    return device.ask(wire.Measure("scratch/model", "scratch/in.npz", RUNTIME, **options))


def test_noise_on_standard_output_and_error_disturbs_nothing(device):
    assert predict(device, "fine").samples == 2
    outputs = np.load(io.BytesIO(device.get("scratch/out.npz")))
    assert outputs["0"].tolist() == [[1, 2], [3, 4]]
    assert predict(device, "many").samples == 2


@pytest.mark.parametrize(
    ("word", "kind", "said"),
    [
        ("crash", "crash", "SIGSEGV"),
        ("abort", "crash", "SIGABRT"),
        ("murdered", "killed", "killed (SIGKILL)"),
        ("greedy", "memory", "more memory than there is"),
        ("leave", "crash", "status 7"),
        ("bug", "internal", "status 1"),
        ("fail", "model", "node 3 failed"),
        ("refuse", "model", "model is not a model"),
    ],
)
@pytest.mark.parametrize("how", [predict, measure])
def test_what_a_child_dies_of_is_told(device, how, word, kind, said):
    answer = how(device, word)
    assert isinstance(answer, wire.Failed)
    assert answer.kind == kind
    assert said in answer.message
    assert how(device, "refuse").kind == "model"  # the session goes on


def test_a_bug_in_a_child_brings_its_traceback(device):
    assert "KeyError: 'a bug'" in predict(device, "bug").detail


@pytest.mark.parametrize("how", [predict, measure])
def test_a_child_that_hangs_is_killed(device, how):
    answer = how(device, "hang", timeout_s=1.0)
    assert (answer.kind, answer.message) == (
        "hang",
        "the model's process gave no sign of life for 1 s",
    )


def test_a_child_over_its_memory_is_killed(device):
    answer = predict(device, "hog", memory_mib=200)
    assert (answer.kind, answer.message) == (
        "memory",
        "the model's process took more than the 200 MiB it may have",
    )


@pytest.mark.parametrize("farewell", ["end", "kill"])
def test_no_child_outlives_its_agent(doomed, tmp_path, farewell):
    pid_file = tmp_path / "pid"
    doomed.put("scratch/model", f"family {pid_file}".encode())
    doomed.send(wire.Predict("scratch/model", "scratch/in.npz", "scratch/out.npz", RUNTIME))
    child = _wait_for(lambda: pid_file.exists() and pid_file.read_text())
    getattr(doomed, farewell)()
    _wait_for(lambda: not Path("/proc", child).exists() or _is_zombie(child))


def test_a_hang_up_ends_the_agent_amid_a_request(doomed, root):
    doomed.put("scratch/model", b"hang")
    doomed.send(wire.Predict("scratch/model", "scratch/in.npz", "scratch/out.npz", RUNTIME))
    assert doomed.end() == 1
    assert list((root / "scratch").iterdir()) == []


def test_a_runtime_that_does_not_import_is_told(device):
    broken = wire.Runtime("tflite_runtime", paths=("runtimes/broken",))
    package = device.root / "runtimes/broken/tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("raise ImportError('GLIBC_2.34 not found')")
    request = wire.Predict("scratch/model", "scratch/in.npz", "scratch/out.npz", broken)
    device.put("scratch/model", b"fine")
    answer = device.ask(request)
    assert (answer.kind, "GLIBC_2.34" in answer.message) == ("runtime", True)
    probed = device.ask(wire.Probe(broken))
    assert (probed.ok, "GLIBC_2.34" in probed.detail) == (False, True)


def test_a_runtime_that_crashes_on_import_is_told(device):
    package = device.root / "runtimes/fatal/tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os; os.abort()")
    probed = device.ask(wire.Probe(wire.Runtime("tflite_runtime", paths=("runtimes/fatal",))))
    assert (probed.ok, "SIGABRT" in probed.detail) == (False, True)


def test_a_runtime_that_was_seen_to_run_is_not_tried_again_until_it_fails(doomed):
    device = doomed
    assert device.ask(wire.Probe(RUNTIME)).ok
    package = device.root / "runtimes/fake/tflite_runtime/__init__.py"
    package.write_text("raise ImportError('its library is gone')")
    assert device.ask(wire.Probe(RUNTIME)).ok
    assert predict(device, "fine").kind == "runtime"
    assert "its library is gone" in device.ask(wire.Probe(RUNTIME)).detail
    package.write_text("")
    assert device.ask(wire.Probe(RUNTIME)).ok
    shutil.rmtree(device.root / "runtimes/fake")
    assert not device.ask(wire.Probe(RUNTIME)).ok


def test_what_the_devices_owner_installed_is_tried_each_time(doomed):
    assert doomed.ask(wire.Probe(wire.Runtime("litert"))).ok
    assert not (doomed.root / "proved").exists()


def test_an_unknown_runtime_is_told(device):
    probed = device.ask(wire.Probe(wire.Runtime("nonsense")))
    assert "no runtime 'nonsense'; this agent knows litert, onnxruntime, tflite" in probed.detail


def test_runtime_paths_go_in_front_of_what_is_inherited(start, root, tmp_path):
    decoy = tmp_path / "decoy/tflite_runtime"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise ImportError('the wrong one')")
    shutil.copytree(FAKE, root / "runtimes/fake/tflite_runtime")
    agent = start(PYTHONPATH=str(decoy.parent))
    assert "the wrong one" in agent.ask(wire.Probe(wire.Runtime("tflite_runtime"))).detail
    # the fake imports, and refuses the probe's real model since its bytes are no word
    assert "the wrong one" not in agent.ask(wire.Probe(RUNTIME)).detail


def test_what_is_compiled_is_kept_and_mended_where_a_power_cut_tore_it(doomed):
    predict(doomed, "fine")
    (kept,) = (doomed.root / "pycache").rglob("runtimes/fake/tflite_runtime/interpreter*.pyc")
    whole = kept.read_bytes()
    for torn in (b"", whole[:10], whole[:200], whole[:16] + bytes(len(whole) - 16)):
        kept.write_bytes(torn)
        assert predict(doomed, "fine").samples == 2
        assert kept.read_bytes() == whole


def test_a_runtime_stays_as_it_was_unpacked(device):
    before = sorted((device.root / "runtimes/fake").rglob("*"))
    predict(device, "fine")
    assert sorted((device.root / "runtimes/fake").rglob("*")) == before


def _wait_for(condition):
    for _ in range(600):
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def _is_zombie(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_kernels_count_of_kills_for_memory_is_read_or_unknown(tmp_path):
    assert oom_kills(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    assert oom_kills(tmp_path) == 3
