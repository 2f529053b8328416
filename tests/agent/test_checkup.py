"""The doctor's look at how a device is: on this machine, and on recorded files."""

import ast
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from edgeq.agent import checkup
from edgeq.archive import agent_archive, checkup_script
from edgeq.core.state import State


def run(python=sys.executable, **environment):
    done = subprocess.run(
        [python, "-I", "-"],
        input=checkup_script().encode(),
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        check=True,
    )
    word, _, state = done.stdout.decode().strip().partition(" ")
    assert word == "EDGEQ-STATE"
    return State.model_validate_json(state)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A recorded machine, file by file."""
    monkeypatch.setattr(checkup, "ROOT", str(tmp_path))

    def write(path, text):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    return write


def test_the_state_is_what_the_host_understands(tmp_path):
    state = run(HOME=str(tmp_path))
    assert state.folder == str(tmp_path)
    assert state.mount.options
    assert (state.write_error, state.map_error) == ("", "")
    assert state.disk_size_mib > state.disk_free_mib > 0
    assert state.libraries["libgcc_s.so.1"] == ""
    assert state.watched_s >= 1.0


def test_it_leaves_nothing_behind(tmp_path):
    run(HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_every_python_can_look(python, tmp_path):
    assert run(python, HOME=str(tmp_path)).write_error == ""


def test_it_reads_as_python_3_6():
    ast.parse(checkup_script(), feature_version=(3, 6))


def test_it_needs_no_other_file_and_does_not_travel_with_the_agent():
    names = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(checkup_script()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert names <= set(sys.stdlib_module_names)
    assert b"edgeq/agent/checkup.py" not in agent_archive()


def test_a_file_there_is_mapped_to_see_whether_code_may_run(tmp_path):
    (tmp_path / ".profile").write_text("x")
    assert run(HOME=str(tmp_path)).map_how == f"tried on {tmp_path}/.profile"


def test_a_home_without_rights_is_refused(tmp_path):
    if os.getuid() == 0:
        found = checkup.writes("/proc/self")  # where not even root may
    else:
        tmp_path.chmod(0o500)
        found = checkup.writes(str(tmp_path))
    assert found["write_error"] in ("EACCES", "EPERM", "EROFS")


def test_a_home_that_is_not_there_is_told(tmp_path):
    assert checkup.writes(str(tmp_path / "gone"))["write_error"] == "ENOENT"


def test_the_limit_of_a_log_in_is_told():
    script = f"ulimit -f 2048; exec {sys.executable} -I -"
    done = subprocess.run(
        ["sh", "-c", script], input=checkup_script().encode(), capture_output=True, check=True
    )
    assert json.loads(done.stdout.split(b" ", 1)[1])["file_limit_mib"] in (1.0, 2.0)


def test_a_process_at_work_is_named_with_its_share():
    hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = checkup.watch()
        time.sleep(0.5)
        found = checkup.compared(before, checkup.watch())
    finally:
        hog.kill()
        hog.wait()
    own = [one for one in found["processes"] if one["pid"] == hog.pid]
    assert len(own) == 1, found["processes"]
    assert own[0]["name"].startswith("python")
    assert 0.05 <= own[0]["cores"] <= 1.3
    assert found["busy_cores"] > 0


def test_the_examination_itself_is_no_hog():
    before = checkup.watch()
    end = threading.Event()
    worker = threading.Thread(target=lambda: [sum(range(10_000)) for _ in iter(end.is_set, True)])
    worker.start()
    time.sleep(0.3)
    found = checkup.compared(before, checkup.watch())
    end.set()
    worker.join()
    assert [one for one in found["processes"] if one["pid"] == os.getpid()] == []


def test_a_pid_that_came_back_is_another_process():
    before = {"processes": {7: ("old", 900, "1")}}
    after = {"processes": {7: ("new", 30, "99")}}
    found = checkup.busy(before, after, 1.0)
    assert [(one["name"], one["cores"]) for one in found] == [("new", pytest.approx(0.3))]


def test_the_mount_of_a_folder_is_the_nearest_and_the_latest(tree):
    tree(
        "proc/self/mounts",
        "/dev/root / ext4 rw,relatime 0 0\n"
        "/dev/sda1 /home ext4 rw 0 0\n"
        "tmpfs /home/my\\040user tmpfs rw,noexec 0 0\n"
        "/dev/sdb1 /home/my\\040user vfat ro,noexec 0 0\n"
        "/dev/sdc1 /home/my ext4 rw 0 0\n",
    )
    found = checkup.mount("/home/my user/.edgeq")
    assert (found["device"], found["type"]) == ("/dev/sdb1", "vfat")
    assert found["options"] == ["ro", "noexec"]
    assert checkup.mount("/homes")["point"] == "/"


def test_governors_and_lowered_limits_are_read(tree):
    for policy, top in (("policy0", 1800000), ("policy4", 2400000)):
        folder = f"sys/devices/system/cpu/cpufreq/{policy}"
        tree(f"{folder}/scaling_governor", "powersave\n")
        tree(f"{folder}/scaling_driver", "cpufreq-dt\n")
        tree(f"{folder}/scaling_max_freq", "1200000\n")
        tree(f"{folder}/cpuinfo_max_freq", f"{top}\n")
    found = checkup.frequency()
    assert found["governors"] == ["powersave"]
    assert found["frequency_limit_share"] == 0.5
    tree("sys/devices/system/cpu/present", "0-7\n")
    tree("sys/devices/system/cpu/online", "0-3,6\n")
    assert checkup.cores_offline() == 3


def test_memory_pressure_and_swap_are_read(tree):
    tree("proc/meminfo", "MemTotal: 1000 kB\nSwapTotal:     102400 kB\nSwapFree:  51200 kB\n")
    tree("proc/pressure/memory", "some avg10=42.50 avg60=1.00 avg300=0.1 total=1\nfull avg10=1\n")
    assert checkup.swap() == {
        "swap_size_mib": 100.0,
        "swap_free_mib": 50.0,
        "memory_pressure_percent": 42.5,
    }


def as_nobody(work):
    """The result of ``work()``, done by a user without rights where this one has them all."""
    if os.getuid() != 0:
        return work()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        os.write(theirs, json.dumps(work()).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return json.loads(said)


def test_a_sensor_that_refuses_itself_is_told(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(checkup, "ROOT", folder)
        path = Path(folder) / "sys/class/powercap/intel-rapl:0/energy_uj"
        path.parent.mkdir(parents=True)
        path.write_text("1\n")
        assert as_nobody(checkup.unreadable) == []
        path.chmod(0)
        found = as_nobody(checkup.unreadable)
    assert [(one["what"], one["why"]) for one in found] == [("rapl", "EACCES")]


def test_time_that_the_host_of_a_machine_took_is_not_its_own(tree):
    tree("proc/stat", "cpu  100 0 50 800 50 0 0 25 0 0\ncpu0 1 1\n")
    assert checkup.cpu_times() == (150, 25, 1025)


def test_a_machine_that_tells_nothing_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup, "ROOT", str(tmp_path))
    State.model_validate(checkup.checkup())


def test_another_file_systems_file_proves_nothing(tmp_path):
    other = Path("/dev/shm")
    assert other.stat().st_dev != tmp_path.stat().st_dev
    (tmp_path / "x").write_text("x")
    assert checkup.maps(str(tmp_path), str(other))["map_how"] != f"tried on {tmp_path}/x"
