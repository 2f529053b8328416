import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgeq import worker
from edgeq.errors import HostError, ModelError, WorkerError
from edgeq.worker import Limits
from tests.conversion import worker_targets as targets
from tests.conversion.worker_targets import Reply, Request

ROOT = Path(__file__).resolve().parents[2]


def test_a_reply_and_progress_come_back_and_noise_goes_to_the_log(tmp_path):
    seen = []
    reply = worker.call(
        targets.double,
        Request(path=tmp_path, number=4),
        log=tmp_path / "logs" / "worker.log",
        on_progress=lambda *step: seen.append(step),
    )
    assert reply == Reply(path=tmp_path, numbers=(4, 8))
    assert seen == [("double", 1, 2)]
    log = (tmp_path / "logs" / "worker.log").read_text()
    assert "noise on standard output" in log
    assert "noise on the descriptor" in log


def test_an_error_travels_back_with_its_class_message_and_hint(tmp_path):
    with pytest.raises(ModelError) as caught:
        worker.call(targets.refuse, Request(path=Path("/a b")), log=tmp_path / "log")
    assert caught.value.message == "/a b is bad"
    assert caught.value.hint == "mend it"


def test_a_crash_names_the_signal_and_the_log(tmp_path):
    with pytest.raises(WorkerError, match="SIGSEGV") as caught:
        worker.call(targets.crash, Request(), log=tmp_path / "log")
    assert str(tmp_path / "log") in caught.value.hint


def test_a_bug_in_the_child_is_told_by_its_last_line_and_its_traceback_is_in_the_log(tmp_path):
    with pytest.raises(WorkerError, match="the worker failed: ZeroDivisionError") as caught:
        worker.call(targets.fail, Request(), log=tmp_path / "log")
    assert caught.value.hint == f"its output is in {tmp_path / 'log'}"
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_too_much_time_stops_the_child_and_its_children(tmp_path):
    with pytest.raises(WorkerError, match="more than 2 s"):
        worker.call(
            targets.hang,
            Request(path=tmp_path / "pids"),
            log=tmp_path / "log",
            limits=Limits(timeout_s=2),
        )
    assert_ended(tmp_path / "pids")


def test_too_much_memory_stops_the_child(tmp_path):
    with pytest.raises(WorkerError, match="MiB of memory, more than 200"):
        worker.call(targets.grow, Request(), log=tmp_path / "log", limits=Limits(memory_mib=200))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_edgeq_is_interrupted_or_killed(tmp_path, number):
    code = (
        "import signal\n"
        "from pathlib import Path\n"
        "from edgeq import worker\n"
        "from tests.conversion import worker_targets as t\n"
        # tests that run in the background inherit an ignored SIGINT
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"p = Path({str(tmp_path)!r})\n"
        "worker.call(t.hang, t.Request(path=p / 'pids'), log=p / 'log')\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    os.kill(parent.pid, number)
    parent.wait()
    child = (tmp_path / "pids").read_text().split()[0]
    wait_for(lambda: not is_running(int(child)))
    for pid in (tmp_path / "pids").read_text().split()[1:]:
        if is_running(int(pid)):  # a grandchild outlives only a parent that was killed outright
            assert number != signal.SIGINT
            os.kill(int(pid), signal.SIGKILL)


def test_a_module_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    reply = worker.call(targets.which_modules, Request(), log=tmp_path / "log")
    assert reply.path.parent != tmp_path


def test_a_log_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot write"):
        worker.call(targets.double, Request(), log=tmp_path / "file" / "log")


def assert_ended(pids: Path) -> None:
    for pid in pids.read_text().split():
        wait_for(lambda pid=int(pid): not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
