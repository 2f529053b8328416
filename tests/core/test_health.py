"""What the doctor makes of each state: its finding, whether it stops a deploy, and the mend."""

import pytest

from edgeq.core import health
from edgeq.core.health import Needs
from edgeq.core.machine import Facts, Sources
from edgeq.core.state import Mount, Process, State, Unreadable

NOW = 1_795_000_000.0
SENDS = Needs(disk_mib=120.0, largest_mib=30.0, files=1500)
NOTHING_TO_SEND = Needs(sends_runtime=False)


def facts(**changes):
    fields = {
        "system": "Linux",
        "architecture": "aarch64",
        "kernel": "6.1",
        "cores": 4,
        "memory_available_mib": 900.0,
        "disk_free_mib": 9000.0,
        "home": "/home/pi",
        "root": "/home/pi/.edgeq",
        "user": "pi",
        "throttled": (),
        "load_1min": 0.1,
        "wall_time_s": NOW,
    }
    return Facts(**{**fields, **changes})


def state(**changes):
    mount = Mount(point="/home", device="/dev/sda2", type="ext4", options=("rw", "relatime"))
    fields = {"folder": "/home/pi", "mount": mount, "write_error": "", "map_error": ""}
    return State(**{**fields, **changes})


def mounted(*options):
    return Mount(point="/home", device="/dev/sda2", type="ext4", options=options)


def only(findings, what):
    found = [finding for finding in findings if finding.what == what]
    assert len(found) == 1, found
    return found[0]


def test_a_healthy_place_is_well():
    found = list(health.place(facts(), state(inodes_free=100_000), SENDS))
    assert {finding.level for finding in found} == {"ok"}


@pytest.mark.parametrize(
    ("error", "found", "mend"),
    [
        ("EROFS", "read-only: ext4 at /home (ro)", "mount -o remount,rw /home"),
        ("EDQUOT", "quota is used up", "quota -s"),
        ("ENOSPC", "is full", "delete"),
        ("ENOENT", "no folder", "mkdir -p /home/pi"),
        ("EACCES", "pi cannot write to /home/pi", "chown pi /home/pi"),
        ("EIO", "pi cannot write to /home/pi", "chown"),
    ],
)
def test_a_home_that_cannot_be_written_stops_a_deploy(error, found, mend):
    sick = state(write_error=error, mount=mounted("ro", "relatime"))
    finding = only(health.place(facts(home_writable=False), sick, SENDS), "home")
    assert finding.level == "lack"
    assert found in finding.found
    assert mend in finding.then


def test_a_home_without_rights_is_seen_where_nothing_was_tried():
    finding = only(health.place(facts(home_writable=False), state(write_error=None), SENDS), "home")
    assert finding.level == "lack"


@pytest.mark.parametrize(("needs", "level"), [(SENDS, "lack"), (NOTHING_TO_SEND, "note")])
def test_noexec_stops_a_deploy_that_sends_a_runtime(needs, level):
    sick = state(map_error="EPERM", mount=mounted("rw", "noexec"))
    finding = only(health.place(facts(), sick, needs), "noexec")
    assert finding.level == level
    assert "mount -o remount,exec /home" in finding.then


def test_a_refusal_without_noexec_is_laid_to_the_security_rules():
    finding = only(health.place(facts(), state(map_error="EACCES"), SENDS), "noexec")
    assert "SELinux" in finding.then


@pytest.mark.parametrize(
    ("free", "level"), [(5.0, "lack"), (119.0, "lack"), (150.0, "note"), (250.0, "ok")]
)
def test_the_disk_has_to_hold_what_is_sent(free, level):
    finding = only(health.place(facts(), state(disk_free_mib=free), SENDS), "disk")
    assert finding.level == level
    assert (level == "ok") == (finding.then == "")


@pytest.mark.parametrize(
    ("free", "level"), [(0, "lack"), (1499, "lack"), (2000, "note"), (9000, "ok")]
)
def test_a_disk_without_inodes_is_full_too(free, level):
    finding = only(health.place(facts(), state(inodes_free=free), SENDS), "inodes")
    assert finding.level == level


def test_a_file_system_without_inodes_of_its_own_says_nothing_of_them():
    found = [one.what for one in health.place(facts(), state(inodes_free=None), SENDS)]
    assert "inodes" not in found


def test_a_limit_on_files_below_the_runtimes_size_stops_a_deploy():
    finding = only(health.place(facts(), state(file_limit_mib=4.0), SENDS), "file size")
    assert finding.level == "lack"
    assert "ulimit -f" in finding.then
    whats = [one.what for one in health.place(facts(), state(file_limit_mib=400.0), SENDS)]
    assert "file size" not in whats


@pytest.mark.parametrize(("sends", "level"), [(True, "lack"), (False, "note")])
def test_a_missing_libstdcpp_has_its_package_named(sends, level):
    sick = state(
        libraries={"libstdc++.so.6": "cannot open shared object file", "libgcc_s.so.1": ""}
    )
    finding = only(health.libraries(sick, sends_runtime=sends), "libraries")
    assert (finding.level, finding.then) == (level, "sudo apt install libstdc++6")


def test_a_missing_libgomp_matters_to_what_was_installed_by_hand_only():
    sick = state(libraries={"libstdc++.so.6": "", "libgomp.so.1": "not found"})
    assert only(health.libraries(sick, sends_runtime=True), "libraries").level == "ok"
    said = "libgomp.so.1: cannot open shared object file"
    assert health.package_for(said) == "sudo apt install libgomp1"
    assert health.package_for("no module named x") == ""


@pytest.mark.parametrize(
    ("wall", "skew", "found", "mend"),
    [
        (5000.0, 5000.0 - NOW, "never set: it says 1970", "date -s @1795000000"),
        (NOW + 3600, 3600.0, "+3600.0 s against", "timedatectl set-ntp true"),
    ],
)
def test_a_wrong_clock_is_told_with_its_mend(wall, skew, found, mend):
    finding = health.clock(facts(wall_time_s=wall), state(rtc=False), skew, 0.1)
    assert finding.level == "note"
    assert found in finding.found
    assert mend in finding.then


def test_a_clock_within_what_can_be_known_is_right():
    assert health.clock(facts(), state(), 6.0, 2.0).level == "ok"


def test_under_voltage_now_and_before_are_told_apart():
    now = only(health.power_supply(facts(throttled=("under-voltage",))), "power supply")
    before = facts(throttled=("occurred:under-voltage", "occurred:throttled"))
    since = only(health.power_supply(before), "power supply")
    assert now.found == "under-voltage now"
    assert "since it was started" in since.found
    assert "power supply" in now.then
    assert list(health.power_supply(facts(throttled=None))) == []


@pytest.mark.parametrize(
    ("flags", "events", "found"),
    [
        (
            ("throttled", "occurred:throttled"),
            (),
            "now: throttled; since it was started: throttled",
        ),
        ((), ("occurred:core throttled 7 times",), "since it was started: core throttled 7 times"),
        (None, ("occurred:over-current oc1 3 times",), "over-current oc1 3 times"),
    ],
)
def test_throttling_is_told_with_its_time(flags, events, found):
    finding = health.throttling(facts(throttled=flags, throttle_events=events))
    assert finding.level == "note"
    assert found in finding.found


def test_under_voltage_alone_is_no_throttling():
    assert health.throttling(facts(throttled=("under-voltage",))).level == "ok"
    assert health.throttling(facts(throttled=None)).found == "there is no way to know"


def test_a_hog_is_named_with_its_share():
    busy = state(
        watched_s=1.0, processes=(Process(pid=812, name="stress", user="root", cores=0.98),)
    )
    finding = only(health.work(facts(), busy), "processes")
    assert finding.level == "note"
    assert finding.found == "stress (pid 812, root) takes 98% of a core"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"busy_cores": 1.0, "processes_hidden": True}, "cannot see"),
        ({"stolen_cores": 0.5}, "holds back 0.5 cores"),
    ],
)
def test_work_that_has_no_name_is_still_told(changes, found):
    finding = only(health.work(facts(), state(watched_s=1.0, **changes)), "processes")
    assert finding.level == "note"
    assert found in finding.found


def test_an_idle_machine_is_well():
    found = list(health.work(facts(), state(watched_s=1.0, busy_cores=0.02)))
    assert {one.level for one in found} == {"ok"}


@pytest.mark.parametrize(
    ("driver", "level"), [("cpufreq-dt", "note"), ("intel_pstate", "ok"), ("amd-pstate-epp", "ok")]
)
def test_powersave_is_slow_but_for_drivers_of_their_own_mind(driver, level):
    found = only(
        health.frequency(state(governors=("powersave",), frequency_driver=driver)), "frequency"
    )
    assert found.level == level


def test_a_lowered_limit_is_told():
    slow = state(governors=("schedutil",), frequency_limit_share=0.333)
    found = only(health.frequency(slow), "frequency")
    assert "held at 33%" in found.found
    assert "scaling_max_freq" in found.then


def test_little_memory_and_thrashing_are_told():
    assert only(health.memory(facts(memory_available_mib=40.0), state()), "memory").level == "note"
    sick = state(swap_size_mib=100.0, swap_free_mib=5.0, swap_pages_per_s=900.0)
    found = only(health.memory(facts(), sick), "swap")
    assert found.level == "note"
    assert "95 of 100 MiB used, 900 pages/s" in found.found
    calm = state(swap_size_mib=100.0, swap_free_mib=5.0, swap_pages_per_s=0.0)
    assert only(health.memory(facts(), calm), "swap").level == "ok"


def test_no_sensors_and_sensors_that_cannot_be_read_are_told():
    none = only(health.sensors(facts(), state()), "sensors")
    assert (none.level, none.found) == ("note", "none")
    seen = facts(
        sensors=("power: rapl package-0 (for root only)",), sources=Sources(power=("rapl",))
    )
    closed = Unreadable(what="rapl", path="/sys/x/energy_uj", why="EACCES")
    found = list(health.sensors(seen, state(unreadable=(closed,))))
    assert [one.level for one in found] == ["ok", "note"]
    assert "chmod a+r /sys/class/powercap" in found[1].then
    vcgencmd = Unreadable(what="vcgencmd", path="/dev/vcio", why="VCHI initialization failed")
    found = list(health.sensors(seen, state(unreadable=(vcgencmd,))))
    assert "usermod -aG video pi" in found[1].then


def test_a_board_with_a_temperature_and_no_meter_is_told_that_power_is_unknown():
    seen = facts(
        sensors=("temperature: cpu-thermal",),
        sources=Sources(thermal=("thermal_zone",), throttling=("vcgencmd",)),
    )
    found = only(health.sensors(seen, state()), "sensors")
    assert "power will be null" in found.then
