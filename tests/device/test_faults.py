"""A deploy to a machine that breaks in the middle: each test shows first that it really did.

Afterwards: the exit code and one sentence with the mend, nothing left behind, the release of before
is served as it was, and the next deploy works.
"""

import time

import pytest

from tests.device import breaking
from tests.device.choosing import some
from tests.fakes import tiny_model

LONG = ("--duration", "20")
STEPS = (
    "device: warmup",
    "device: push",
    "device: examine",
    "device: choose runtime",
    "device: unpack",
    "device: try tflite-runtime",
    "device: replay golden set",
    "device: run",
)
CHILD = "pgrep -f 'pyz [c]hild'"
AGENT = "pgrep -f 'pyz [s]erve' | head -1"
IN_1970_NS = 30 * 86400 * 10**9  # Linux takes no wall clock that is behind its uptime
GROUP = "/sys/fs/cgroup/small"


@pytest.fixture(scope="module")
def broken(module_machines, tmp_path_factory):
    breaker = breaking.Breaker(module_machines.up("pi4"), tmp_path_factory.mktemp("user"))
    breaker.deploy(breaker.bundle())
    return breaker


@pytest.fixture
def active(broken):
    """What is served before the fault, and after it."""
    before = broken.served()
    assert before
    return before


def settle(broken, active):
    """After a fault: as before, and the next deploy works."""
    assert broken.served() == active
    broken.deploy(broken.bundle())


@pytest.mark.parametrize("step", some(STEPS, STEPS[0]))
def test_a_power_cut_at_any_step(broken, active, step):
    if step in ("device: push", "device: unpack"):  # then a runtime is pushed
        broken.machine.root("rm -rf /home/pi/.edgeq/runtimes")
    with broken.start(broken.bundle(padding_bytes=1 << 20), *LONG) as running:
        running.until(step)
        broken.machine.kill()
        assert broken.machine.pid is None
        said = running.failed(4)
    assert "board" in said or broken.machine.host in said
    broken.machine.start()
    settle(broken, active)


@pytest.mark.long
def test_a_reset_in_the_middle_of_a_run(broken, active):
    booted = broken.machine.ssh("cat /proc/sys/kernel/random/boot_id").stdout
    with broken.start(broken.bundle(), *LONG) as running:
        running.until("device: warmup")
        broken.machine.reset()
        assert "connection" in running.failed(4)
    assert broken.machine.ssh("cat /proc/sys/kernel/random/boot_id").stdout not in ("", booted)
    settle(broken, active)


@pytest.mark.long
def test_a_link_that_is_down_for_3_s_is_waited_for(broken, active):
    made = broken.bundle()
    with broken.start(made, "--duration", "5") as running:
        running.until("device: run")
        broken.machine.link(up=False)
        assert broken.machine.root("cat /sys/class/net/e*/carrier").strip() == "0"
        time.sleep(3)
        broken.machine.link(up=True)
        assert running.end() == 0, running.said
    assert broken.served() == made.listing != active
    assert broken.rest() == ""


@pytest.mark.parametrize("how", some(("cable", "interface", "frozen"), "cable"))
def test_a_link_that_is_down_for_ever_ends_within_the_stated_time(broken, active, how):
    """QEMU's network acknowledges what the host sends: TCP alone would never notice."""
    machine = broken.machine
    name = machine.root("ls /sys/class/net | grep ^e").strip()
    with broken.start(broken.bundle(), "--duration", "300") as running:
        running.until("device: run")
        {
            "cable": lambda: machine.link(up=False),
            "interface": lambda: machine.root(f"ip link set {name} down"),
            "frozen": machine.freeze,
        }[how]()
        if how != "frozen":
            assert machine.root(f"cat /sys/class/net/{name}/operstate").strip() == "down"
        said = running.failed(4)
    assert "silent" in said or "broke" in said
    {
        "cable": lambda: machine.link(up=True),
        "interface": lambda: machine.root(
            f"ip link set {name} up; ip addr replace 10.0.2.15/24 dev {name};"
            " ip route replace default via 10.0.2.2"
        ),
        "frozen": machine.thaw,
    }[how]()
    settle(broken, active)


@pytest.mark.long
def test_a_link_that_is_down_for_30_s(broken):
    with broken.start(broken.bundle(), "--duration", "10") as running:
        running.until("device: run")
        broken.machine.link(up=False)
        time.sleep(30)
        broken.machine.link(up=True)
        assert running.end() in (0, 4), running.said
    broken.deploy(broken.bundle())


@pytest.mark.long
def test_a_slow_and_lossy_link_is_only_slow(broken):
    broken.machine.network(delay_ms=200, loss_percent=1)
    try:
        start_s = time.monotonic()
        broken.machine.ssh("true")
        assert time.monotonic() - start_s > 0.8  # several round trips
        broken.deploy(broken.bundle(padding_bytes=1 << 20))
    finally:
        broken.machine.network()


@pytest.mark.long
def test_a_model_s_process_that_is_killed(broken, active):
    with broken.start(broken.bundle(), *LONG) as running:
        running.until("device: run")
        broken.machine.root(f"kill -KILL $({CHILD})")
        said = running.failed(1)
    assert "was killed (SIGKILL)" in said
    settle(broken, active)


@pytest.mark.long
def test_an_agent_that_is_killed(broken, active):
    with broken.start(broken.bundle(), *LONG) as running:
        running.until("device: run")
        broken.machine.root(f"kill -KILL $({AGENT})")
        said = running.failed(1)
    assert "the agent on board was killed" in said
    settle(broken, active)


def test_a_model_that_takes_more_memory_than_there_is(broken, active):
    machine = broken.machine
    machine.root(
        "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup;"
        f" echo +memory > /sys/fs/cgroup/cgroup.subtree_control; mkdir -p {GROUP};"
        f" echo 200M > {GROUP}/memory.max;"
        f" for pid in $(pgrep sshd); do echo $pid > {GROUP}/cgroup.procs; done"
    )
    try:
        said = broken.fails(3, broken.bundle(tiny_model.greedy_model(400 << 20)))
        assert "oom_kill 0" not in machine.root(f"cat {GROUP}/memory.events")
    finally:
        machine.root(f"for pid in $(cat {GROUP}/cgroup.procs); do"
                     " echo $pid > /sys/fs/cgroup/cgroup.procs; done; true")  # fmt: skip
    assert "memory" in said
    assert "a smaller model" in said
    settle(broken, active)


# Free space at which the agent itself, its scratch folder, or the model finds no room.
FREE_KIB = (0, 4, 8, 16, 40, 64, 100, 300, 1200, 2000)


@pytest.mark.parametrize("free_kib", some(FREE_KIB, FREE_KIB[0]))
def test_a_full_disk(broken, active, free_kib):
    machine, folder = broken.machine, "/home/pi/.edgeq"
    machine.root(
        "mkdir -p /mnt/full; mount -t tmpfs -o size=80M,uid=1000,gid=1000,mode=700 tmpfs /mnt/full;"
        f" cp -a {folder}/. /mnt/full/; rm -rf /mnt/full/agents;"
        f" mount --move /mnt/full {folder};"
        f" free=$(df --output=avail -k {folder} | tail -1);"
        f" fallocate -l $(((free - {free_kib}) * 1024)) {folder}/filler",
        timeout_s=120,
    )
    try:
        left = int(machine.ssh(f"df --output=avail -k {folder} | tail -1").stdout)
        assert left <= free_kib + 4
        said = broken.fails(1, broken.bundle(padding_bytes=2 << 20))
        assert "full" in said or "room" in said
        assert broken.served() == active
        assert broken.rest() == ""
        machine.root(f"rm {folder}/filler")
        broken.deploy(broken.bundle())
    finally:
        machine.root(f"umount {folder}")
    assert broken.served() == active


def test_a_clock_in_1970_and_one_that_jumps(broken):
    broken.machine.clock(IN_1970_NS)
    try:
        assert broken.machine.ssh("date +%Y").stdout.strip() == "1970"
        made = broken.bundle()
        with broken.start(made, "--json", "report.json", "--duration", "5") as running:
            running.until("device: run")
            broken.machine.clock()
            assert running.end() == 0, running.said
        assert broken.served() == made.listing
        report = broken.report()
    finally:
        broken.machine.clock()
    assert any(reason.startswith("clock-moved") for reason in report["verdict"]["reasons"])


@pytest.mark.long
def test_a_clock_that_stays_in_1970(broken):
    broken.machine.clock(IN_1970_NS)
    try:
        report = broken.deploy(broken.bundle())
        assert broken.machine.ssh("date +%Y").stdout.strip() == "1970"
    finally:
        broken.machine.clock()
    assert not any("clock-moved" in reason for reason in report["verdict"]["reasons"])


@pytest.mark.long
def test_two_deploys_at_once(broken, active):
    first = broken.bundle()
    with broken.start(first, *LONG) as running:
        running.until("device: run")
        said = broken.fails(1, broken.bundle())
        assert "busy" in said
        assert "net" in said.partition("busy")[2]  # what the other one is doing
        assert broken.served() == active
        assert running.end() == 0, running.said
    assert broken.served() == first.listing


def test_a_start_up_file_that_exits(broken, active):
    machine = broken.machine
    machine.ssh("cp .bashrc .bashrc.kept; echo exit 0 > .bashrc")
    try:
        assert machine.ssh("echo reached").stdout == ""
        assert "~/.bashrc" in broken.fails(1, broken.bundle())
    finally:
        machine.root("mv /home/pi/.bashrc.kept /home/pi/.bashrc")
    assert broken.served() == active


@pytest.mark.long
def test_one_session_a_banner_and_noise(broken):
    machine, setting = broken.machine, "/etc/ssh/sshd_config.d/odd.conf"
    machine.root(
        "echo keep out > /etc/banner; cp -p /home/pi/.bashrc /home/pi/.bashrc.kept;"
        f" printf 'MaxSessions 1\\nBanner /etc/banner\\n' > {setting};"
        " sed -i /sftp/d /etc/ssh/sshd_config; kill -HUP $(pgrep -o sshd);"
        " (echo 'echo hello; echo beware >&2; sleep 0.2'; cat /home/pi/.bashrc.kept)"
        " > /home/pi/.bashrc"
    )
    try:
        end_s = time.monotonic() + 30  # sshd starts itself anew
        while (done := machine.ssh("true")).returncode and time.monotonic() < end_s:
            time.sleep(0.5)
        assert (done.stdout, "beware" in done.stderr) == ("hello\n", True), done
        broken.deploy(broken.bundle())
    finally:
        machine.root(
            f"mv /home/pi/.bashrc.kept /home/pi/.bashrc; rm {setting}; kill -HUP $(pgrep -o sshd)"
        )
