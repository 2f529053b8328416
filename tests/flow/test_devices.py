import json

from tests.flow.conftest import DIGITS
from tests.servers import sshd


def test_a_device_is_added_shown_listed_and_removed(user, server, device):
    listed = json.loads(user.run("devices", "list", "--json").stdout)
    assert [one["name"] for one in listed["devices"]] == [device]
    shown = user.run("devices", "show", device)
    assert server.host_key().fingerprint in shown.stdout
    assert f"127.0.0.1:{server.port}" in shown.stdout
    assert "again" in user.fails(
        2, "devices", "add", device, "--profile", "linux", "--host", "x@y"
    ) or "already" in user.fails(2, "devices", "add", device, "--profile", "linux", "--host", "x@y")
    assert user.run("devices", "remove", device).returncode == 0
    assert "no device" in user.fails(2, "devices", "show", device)


def test_a_wrong_key_is_found_when_the_device_is_added(user, server, tmp_path):
    sshd.make_key(tmp_path / "other")
    said = user.fails(
        4, "devices", "add", "x", "--profile", "linux", "--accept-new",
        "--host", f"{server.user}@127.0.0.1:{server.port}", "--identity", tmp_path / "other",
    )  # fmt: skip
    assert "identity" in said or "key" in said
    assert '"name"' not in user.run("devices", "list", "--json").stdout


def test_the_doctor_tells_what_a_device_is_and_changes_nothing(user, server, device):
    done = user.run("devices", "doctor", device, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    whats = {finding["what"]: finding for finding in found["findings"]}
    assert {"profile", "memory", "disk", "python", "sensors", "clock", "load"} <= set(whats)
    assert whats["profile"]["level"] == "ok"
    assert "litert" in whats["runtime"]["found"]
    assert abs(found["facts"]["wall_time_s"]) > 1_000_000_000
    assert not (server.home / ".edgeq").exists()
    assert "ready for edgeq deploy" in user.run("devices", "doctor", device).stdout


def test_the_doctor_says_what_a_device_lacks(user, server, add):
    add(server, "board", profile="jetson-orin-nano")
    done = user.run("devices", "doctor", "board")
    assert done.returncode == 1
    assert "LACK" in done.stdout
    assert "aarch64" in done.stdout


def test_this_machine_can_be_examined(user):
    done = user.run("devices", "doctor", "host", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"] == "host"


def test_a_one_off_needs_its_key_vouched_for(user, server):
    words = (
        "deploy", "--dry-run", "--device", "linux", "--identity", server.identity,
        "--host", f"{server.user}@127.0.0.1:{server.port}", DIGITS,
    )  # fmt: skip
    assert "--fingerprint" in user.fails(4, *words)
    known = user.home / ".ssh" / "known_hosts"
    known.parent.mkdir()
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key().pin}\n")
    assert user.run(*words).returncode == 0
    assert not (server.home / ".edgeq").exists()


def test_this_machines_name_and_profile_are_not_for_others(user, server):
    host = f"{server.user}@127.0.0.1:{server.port}"
    words = ("--accept-new", "--host", host, "--identity", server.identity)
    said = user.fails(2, "devices", "add", "host", "--profile", "linux", *words)
    assert "this machine" in said
    said = user.fails(2, "devices", "add", "bench", "--profile", "host", *words)
    assert "--profile linux" in said


def test_a_python_that_hangs_on_the_device_is_passed_over(user, tmp_path, add):
    bad = tmp_path / "bad" / "python3"
    bad.parent.mkdir()
    bad.write_text("#!/bin/sh\nexec sleep 60\n")
    bad.chmod(0o755)
    options = sshd.Options(path=f"{bad.parent}:/usr/local/bin:/usr/bin:/bin")
    with sshd.running(tmp_path / "odd", options) as odd:
        add(odd, "odd")
        done = user.run("deploy", "--dry-run", "--device", "odd", "--json", "-", DIGITS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["python"] != str(bad)
