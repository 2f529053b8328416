"""``edgeq doctor`` on a board in each of the states that it has to find.

Every test first sees that the board is in that state, then that the doctor says so with the mend.
"""

import contextlib
import json
import time

import pytest

from tests.device.someone import someone

PYTHONS = "/usr/bin/python3 /usr/bin/python3.11"
HIDE = f"mkdir -p /root/hidden; mv {PYTHONS} /root/hidden/"
SHOW = "rm -f /usr/bin/python3; mv /root/hidden/python3* /usr/bin/"
SENSORS = (
    "/sys/class/thermal /sys/class/hwmon /sys/class/power_supply /sys/devices/system/cpu/cpufreq"
)


@pytest.fixture(scope="module")
def board(module_machines):
    return module_machines.up("pi4")


@pytest.fixture(scope="module")
def user(board, tmp_path_factory):
    person = someone(tmp_path_factory.mktemp("doctor"))
    added = person.add(board, "bench", "pi4")
    assert added.returncode == 0, added.stderr
    return person


@contextlib.contextmanager
def broken(machine, do, undo):
    """As root: break it, and mend it afterwards."""
    machine.root(do)
    try:
        yield
    finally:
        machine.root(undo)


def diagnose(user, name="bench"):
    """Exit code, and findings by what they are about; the worst where there are several."""
    done = user.run("doctor", name, "--json")
    assert done.stdout, done.stderr
    order = {"ok": 0, "note": 1, "lack": 2}
    found = sorted(json.loads(done.stdout)["findings"], key=lambda one: order[one["level"]])
    return done.returncode, {one["what"]: one for one in found}


def test_a_healthy_board_is_ready(user, board):
    code, found = diagnose(user)
    assert [one for one in found.values() if one["level"] == "lack"] == []
    assert code == 0
    assert found["clock"]["level"] == "ok"
    assert found["power supply"]["level"] == "ok"
    assert "under-voltage" in found["power supply"]["found"]
    assert "tried on /home/pi/" in found["noexec"]["found"]
    assert board.ssh("ls -A /home/pi/.edgeq").returncode != 0  # nothing was written


@pytest.fixture(scope="module")
def strained(user, board):
    """Several at once: a clock at 1970, under-voltage and throttling, a busy processor that is
    kept slow, and a sensor that the user may not read.
    """
    zone = "/sys/class/thermal/thermal_zone0/temp"
    governor = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    # The board's own program takes one core for as long as it is let.
    hog = "nohup setsid timeout 280 yes >/dev/null 2>&1 </dev/null & echo $!"
    board.root(f"modprobe cpufreq_powersave; echo powersave > {governor}; chmod 600 {zone}")
    board.set(throttled=0x50005)
    pid = int(board.ssh(hog).stdout.split()[-1])
    board.clock(time_ns=86_400 * 10**9)
    try:
        assert board.root(f"cat {governor}").strip() == "powersave"
        assert board.ssh("date +%Y").stdout.strip() == "1970"
        assert board.ssh(f"cat {zone}").returncode != 0
        assert "0x50005" in board.ssh("vcgencmd get_throttled").stdout
        assert board.ssh(f"kill -0 {pid}").returncode == 0
        _, found = diagnose(user)
    finally:
        board.clock()
        board.set(throttled=0)
        board.root(f"echo ondemand > {governor}; chmod 644 {zone}; pkill -x yes", timeout_s=60)
    return found


def test_a_clock_that_was_never_set_is_told(strained):
    assert strained["clock"]["level"] == "note"
    assert "1970" in strained["clock"]["found"]
    assert "timedatectl set-ntp true" in strained["clock"]["then"]


def test_under_voltage_is_told(strained):
    assert strained["power supply"]["found"] == "under-voltage now"
    assert "power supply" in strained["power supply"]["then"]


def test_throttling_is_told_now_and_since_it_was_started(strained):
    assert strained["throttling"]["found"] == "now: throttled; since it was started: throttled"
    assert "cooling" in strained["throttling"]["then"]


def test_the_process_that_takes_the_processor_is_named(strained):
    assert strained["processes"]["level"] == "note"
    assert "yes (pid" in strained["processes"]["found"]
    assert "% of a core" in strained["processes"]["found"]
    assert "stop it" in strained["processes"]["then"]


def test_a_governor_that_keeps_it_slow_is_told(strained):
    assert strained["frequency"]["level"] == "note"
    assert "scaling_governor" in strained["frequency"]["then"]


def test_a_sensor_that_the_user_may_not_read_is_told(strained):
    assert "thermal_zone is there, but pi cannot read it" in strained["sensors"]["found"]
    assert "chmod a+r /sys/class/thermal/thermal_zone0/temp" in strained["sensors"]["then"]


def test_a_home_that_may_not_run_code_is_told(user, board):
    do = "mount --bind /home /home; mount -o remount,bind,noexec /home"
    with broken(board, do, "umount /home"):
        board.ssh("cp /bin/true /home/pi/true")
        assert board.ssh("/home/pi/true; rm /home/pi/true").stderr
        code, found = diagnose(user)
    assert (code, found["noexec"]["level"]) == (1, "lack")
    assert "tried on /home/pi/" in found["noexec"]["found"]
    assert "mount -o remount,exec /home" in found["noexec"]["then"]


@pytest.mark.long
def test_a_home_that_is_read_only_is_told(user, board):
    with broken(board, "mount --bind /home /home; mount -o remount,bind,ro /home", "umount /home"):
        assert "Read-only" in board.ssh("touch /home/pi/x").stderr
        code, found = diagnose(user)
    assert (code, found["home"]["level"]) == (1, "lack")
    assert "read-only" in found["home"]["found"]
    assert "mount -o remount,rw /home" in found["home"]["then"]


@pytest.mark.long
def test_too_little_room_and_too_few_inodes_are_told(user, board):
    folder = "/home/pi/.edgeq"
    options = "size=8m,nr_inodes=40,uid=1000,gid=1000,mode=700"
    do = f"mkdir -p {folder}; mount -t tmpfs -o {options} small {folder}"
    with broken(board, do, f"umount {folder}; rmdir {folder}"):
        code, found = diagnose(user)
    assert code == 1
    assert (found["disk"]["level"], found["inodes"]["level"]) == ("lack", "lack")
    assert found["disk"]["found"] == "8 MiB free"
    assert "make room" in found["disk"]["then"]
    assert "df -i /home/pi/.edgeq" in found["inodes"]["then"]


def test_a_disk_that_is_full_is_told(user, board):
    folder = "/home/pi/.edgeq"
    do = (
        f"mkdir -p {folder}; mount -t tmpfs -o size=1m,uid=1000,gid=1000 full {folder};"
        f" dd if=/dev/zero of={folder}/x bs=64k count=99 2>/dev/null; true"
    )
    with broken(board, do, f"umount {folder}; rmdir {folder}"):
        assert "No space" in board.ssh(f"head -c 9000 /dev/zero > {folder}/y").stderr
        code, found = diagnose(user)
    assert (code, found["home"]["level"]) == (1, "lack")
    assert "is full" in found["home"]["found"]


def test_a_board_without_a_python_is_told_all_that_its_shell_knows(user, board):
    board.set(throttled=0x10000)
    with broken(board, HIDE, SHOW):
        assert board.ssh("python3 -V").returncode != 0
        code, found = diagnose(user)
    board.set(throttled=0)
    assert (code, found["python"]["level"]) == (1, "lack")
    assert found["python"]["found"] == "none"
    assert "apt install python3" in found["python"]["then"]
    assert found["libc"]["found"].startswith("glibc 2.")
    assert found["processor"]["found"].startswith("aarch64, 4 cores")
    assert (found["home"]["level"], found["noexec"]["level"]) == ("ok", "ok")
    assert found["disk"]["found"].endswith("MiB free")
    assert (found["clock"]["level"], found["inodes"]["level"]) == ("ok", "ok")
    assert "since it was started" in found["power supply"]["found"]


@pytest.mark.long
def test_a_python_that_is_too_old_to_look_is_told_by_its_version(user, board):
    fake = "printf '#!/bin/sh\\necho Python 3.5.3\\nexit 1\\n' > /usr/bin/python3"
    with broken(board, f"{HIDE}; {fake}; chmod 755 /usr/bin/python3", SHOW):
        assert board.ssh("python3 -V").stdout.strip() == "Python 3.5.3"
        code, found = diagnose(user)
    assert (code, found["python"]["level"]) == (1, "lack")
    assert "Python 3.5.3 (/usr/bin/python3)" in found["python"]["found"]


@pytest.mark.long
def test_a_python_and_a_libc_older_than_the_profile_asks_are_both_told(user, board):
    profile = user.home / "newer.toml"
    profile.write_text('description = "newer"\n[system]\npython_min = "3.14"\nglibc_min = "2.99"\n')
    assert user.add(board, "newer", profile).returncode == 0
    code, found = diagnose(user, "newer")
    assert code == 1
    assert found["python"]["found"].startswith("too old: 3.11.")
    assert "Python 3.14 or newer" in found["python"]["then"]
    assert (found["libc"]["level"], found["runtime"]["level"]) == ("lack", "lack")
    assert "not at least 2.99" in found["libc"]["found"]


@pytest.mark.long
def test_a_board_without_sensors_is_told(user, board):
    do = f"for d in {SENSORS}; do mount -t tmpfs none $d; done; mv /usr/bin/vcgencmd /root/"
    undo = f"for d in {SENSORS}; do umount $d; done; mv /root/vcgencmd /usr/bin/"
    with broken(board, do, undo):
        assert board.ssh(f"ls {SENSORS} | grep -v : | grep .").stdout == ""
        _, found = diagnose(user)
    assert (found["sensors"]["level"], found["sensors"]["found"]) == ("note", "none")
    assert "null in reports" in found["sensors"]["then"]


@pytest.mark.long
def test_a_missing_library_is_named_with_its_package(user, board):
    do = "mkdir -p /root/lib; mv /usr/lib/aarch64-linux-gnu/libstdc++.so.6* /root/lib/; ldconfig"
    undo = "mv /root/lib/libstdc++.so.6* /usr/lib/aarch64-linux-gnu/; ldconfig"
    assert "libstdc++.so.6" in board.root("ldconfig -p")
    with broken(board, do, undo):
        code, found = diagnose(user)
    assert (code, found["libraries"]["level"]) == (1, "lack")
    assert found["libraries"]["then"] == "sudo apt install libstdc++6"


@pytest.mark.long
def test_a_clock_an_hour_ahead_is_told_by_how_much(user, board):
    board.clock(time_ns=time.time_ns() + 3600 * 10**9)
    try:
        _, found = diagnose(user)
    finally:
        board.clock()
    assert found["clock"]["level"] == "note"
    assert found["clock"]["found"].startswith(("+3600.", "+359", "+360"))
