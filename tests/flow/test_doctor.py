"""``edgeq doctor`` on states that a real sshd on this machine can be in."""

import json
import subprocess
import sys

from tests.servers import sshd


def findings(user, name, exit_code=0):
    done = user.run("doctor", name, "--json")
    assert done.returncode == exit_code, f"{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout)
    return {one["what"]: one for one in found["findings"]}


def test_it_has_two_names(user, device):
    short = user.run("doctor", device, "--json")
    long = user.run("devices", "doctor", device, "--json")
    assert (short.returncode, long.returncode) == (0, 0), short.stderr
    whats = [
        [finding["what"] for finding in json.loads(done.stdout)["findings"]]
        for done in (short, long)
    ]
    assert whats[0] == whats[1]


def test_one_session_only_is_enough(user, add, tmp_path):
    with sshd.running(tmp_path / "one", sshd.Options(settings=("MaxSessions 1",))) as server:
        found = findings(user, add(server, "one"))
        assert found["ssh"]["level"] == "ok"
        assert "one command at a time" in found["ssh"]["found"]
    assert found["home"]["level"] == "ok"


def test_several_sessions_and_a_noisy_shell_are_no_trouble(user, add, tmp_path):
    options = sshd.Options(noise="Welcome!\nno newline", banner="keep out\n")
    with sshd.running(tmp_path / "noisy", options) as server:
        found = findings(user, add(server, "noisy"))
        assert list(server.home.iterdir()) == []
    assert "several commands" in found["ssh"]["found"]


def test_a_log_in_that_may_write_no_large_file_lacks_something(user, add, tmp_path):
    with sshd.running(tmp_path / "small", sshd.Options(file_limit_kib=2048)) as server:
        found = findings(user, add(server, "small"), exit_code=1)
    assert found["file size"]["level"] == "lack"
    assert "ulimit -f" in found["file size"]["then"]


def test_another_process_that_takes_the_processor_is_named(user, device):
    # More of them than cores: each then has the larger part of one, whatever else runs here.
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        found = findings(user, device)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert found["processes"]["level"] == "note"
    assert any(f"pid {hog.pid}" in found["processes"]["found"] for hog in hogs)
    assert "% of a core" in found["processes"]["found"]


def test_people_see_the_mend_below_the_finding(user, add, tmp_path):
    with sshd.running(tmp_path / "small", sshd.Options(file_limit_kib=2048)) as server:
        done = user.run("doctor", add(server, "small"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    place = next(
        i for i, line in enumerate(lines) if line.startswith("LACK") and "file size" in line
    )
    assert "-> " in lines[place + 1]
    assert lines[-1] == "small: 1 lacking"
