"""The clock held for a run and set back, by a real agent that is killed at will; files are real."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from edgeq import wire
from edgeq.agent import cpufreq, guard, settings
from tests.fakes import machine, tiny_model

RUNTIME = wire.Runtime("litert")
LIMIT_S = 60.0
HELD = {
    "policy0 scaling_governor": "performance",
    "policy0 scaling_min_freq": "1500000",
    "policy0 scaling_max_freq": "1500000",
    "policy2 scaling_governor": "performance",
    "policy2 scaling_min_freq": "2400000",
    "policy2 scaling_max_freq": "2400000",
}


@pytest.fixture
def device(tmp_path):
    return machine.build(tmp_path / "machine")


@pytest.fixture
def begin(archive, device, root):
    """Starts agents on the machine; each has said hello and has a model."""
    agents = []

    def run(**options):
        agent = machine.start(archive, device, root, **options)
        agents.append(agent)
        agent.hello = agent.receive()
        assert agent.put("scratch/model.tflite", tiny_model.wide_model()) == wire.Done()
        return agent

    yield run
    for agent in agents:
        agent.kill()


def request(**options):
    options = {"processes": 1, "runs": 20, "seconds": 0.1, "warmup_s": 0.0, **options}
    return wire.Measure("scratch/model.tflite", "", RUNTIME, **options)


def measure(agent, **options):
    measured = agent.ask(request(**options))
    if isinstance(measured, wire.Measured):
        agent.payload(measured.payload_bytes)
    return measured


def until(what, value):
    """Wait until ``what()`` is that; what it was at the end is the test's own message."""
    end_s = time.monotonic() + LIMIT_S
    while what() != value and time.monotonic() < end_s:
        time.sleep(0.02)
    assert what() == value


def running(agent, device):
    """The agent measures, and the clock is held."""
    agent.send(request(seconds=LIMIT_S, pin_mhz=0.0))
    until(lambda: machine.settings(device), HELD)
    while not agent.progress:  # the model's process is there
        agent.progress += [event for event in [agent._next()] if isinstance(event, wire.Progress)]


def test_nothing_is_changed_unless_it_is_asked_for(begin, device):
    before = machine.settings(device)
    agent = begin()
    measured = measure(agent)
    assert machine.settings(device) == before
    assert [(p.name, p.governor, p.pinned) for p in measured.policies] == [
        ("policy0", "schedutil", False),
        ("policy2", "schedutil", False),
    ]
    assert (measured.policies[1].min_mhz, measured.policies[1].hardware_max_mhz) == (800.0, 2400.0)
    assert not (agent.root / guard.LOCK).exists()


def test_the_highest_frequency_is_held_and_everything_is_set_back(begin, device):
    before = machine.settings(device)
    agent = begin()
    measured = measure(agent, pin_mhz=0.0)
    assert [(p.min_mhz, p.max_mhz, p.governor, p.pinned) for p in measured.policies] == [
        (1500.0, 1500.0, "performance", True),
        (2400.0, 2400.0, "performance", True),
    ]
    assert measured.notes == ()
    assert machine.settings(device) == before
    assert not (agent.root / settings.STATE).exists()


def test_a_frequency_is_held_on_the_runs_cpus_only(begin):
    cpu = min(os.sched_getaffinity(0))
    measured = measure(begin(), pin_mhz=1000.0, cpus=(cpu,))
    assert [(p.name, p.max_mhz, p.pinned) for p in measured.policies] == [
        ("policy0", 1000.0, True),
        ("policy2", 2400.0, False),
    ]
    assert measured.cpus == (cpu,)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_it_is_set_back_when_the_agent_is_killed(begin, device, number):
    before = machine.settings(device)
    agent = begin()
    running(agent, device)
    agent.process.send_signal(number)
    until(lambda: machine.settings(device), before)
    until((agent.root / settings.STATE).exists, False)
    agent.process.wait()


def test_it_is_set_back_when_the_agents_whole_group_is_killed(begin, device):
    before = machine.settings(device)
    agent = begin(start_new_session=True)
    running(agent, device)
    os.killpg(agent.process.pid, signal.SIGKILL)
    until(lambda: machine.settings(device), before)


def test_it_is_set_back_when_the_connection_breaks(begin, device):
    before = machine.settings(device)
    agent = begin()
    running(agent, device)
    agent.process.stdin.close()
    until(lambda: machine.settings(device), before)
    agent.process.wait()


def test_it_is_set_back_when_the_model_crashes(begin, device):
    before = machine.settings(device)
    agent = begin()
    agent.send(request(seconds=LIMIT_S, pin_mhz=0.0))
    until(lambda: machine.settings(device), HELD)
    child = until_child(agent.process.pid)
    os.kill(child, signal.SIGKILL)
    failed = agent.receive()
    assert isinstance(failed, wire.Failed)
    assert machine.settings(device) == before


def until_child(agent):
    """The model's process: the agent's child that is no guard."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
            if b"child" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return int(pid)
        time.sleep(0.02)
    raise AssertionError("no child")


def guard_of(agent):
    for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if b"guard" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError("no guard")


def test_the_next_agent_sets_it_back_when_the_guard_was_killed_too(begin, device):
    before = machine.settings(device)
    agent = begin()
    running(agent, device)
    os.kill(guard_of(agent.process.pid), signal.SIGKILL)
    agent.process.kill()
    agent.process.wait()
    assert machine.settings(device) == HELD
    again = begin()
    until(lambda: machine.settings(device), before)
    measured = measure(again)
    assert measured.notes == (
        "the CPU frequencies that an interrupted run had pinned were put back",
    )
    assert measure(again).notes == ()


def test_the_agent_sets_it_back_itself_when_only_the_guard_was_killed(begin, device):
    before = machine.settings(device)
    agent = begin()
    agent.send(request(seconds=1.0, pin_mhz=0.0))
    until(lambda: machine.settings(device), HELD)
    os.kill(guard_of(agent.process.pid), signal.SIGKILL)
    measured = agent.receive()
    assert measured.notes == ()
    assert machine.settings(device) == before


def test_another_boots_settings_are_forgotten(device, root):
    root.mkdir()
    path = device / "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
    settings.keep(root, [settings.Setting(path, "600000")])
    state = root / settings.STATE
    state.write_text(state.read_text().replace('"boot": "', '"boot": "other'))
    assert settings.restore(root) == []
    assert path.read_text().strip() == "1500000"
    assert not state.exists()


def test_what_cannot_be_set_back_is_said_with_the_command_and_stays_noted(device, root):
    root.mkdir()
    path = device / "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
    settings.keep(root, [settings.Setting(path, "1500000")])
    path.unlink()
    path.mkdir()
    (note,) = guard.recover(root)
    assert "could not be put back" in note
    assert f"echo 1500000 | sudo tee {path}" in note
    assert (root / settings.STATE).exists()


def test_only_frequency_settings_are_ever_written(tmp_path):
    other = tmp_path / "etc/passwd"
    other.parent.mkdir()
    other.write_text("root")
    settings.keep(tmp_path, [settings.Setting(other, "evil")])
    assert settings.restore(tmp_path) == []
    assert other.read_text() == "root"


def test_two_runs_do_not_hold_it_at_once(begin, device):
    before = machine.settings(device)
    first = begin()
    running(first, device)
    refused = measure(begin(), pin_mhz=1000.0)
    assert (refused.kind, refused.message) == ("busy", "another run holds the CPU frequency")
    assert machine.settings(device) == HELD
    first.process.stdin.close()
    until(lambda: machine.settings(device), before)


@pytest.mark.parametrize(
    ("mhz", "words"),
    [(1234.0, "policy0 (CPU 0-1) has no 1234 MHz"), (2400.0, "policy0 (CPU 0-1) has no 2400 MHz")],
)
def test_a_frequency_that_a_cpu_has_not_is_refused_with_those_it_has(begin, device, mhz, words):
    before = machine.settings(device)
    refused = measure(begin(), pin_mhz=mhz)
    assert (refused.kind, refused.message) == ("wish", words)
    assert refused.detail == "it has 600, 1000, 1500 MHz; --cpus chooses among CPUs"
    assert machine.settings(device) == before


def test_a_wish_can_be_asked_for_before_any_work_and_changes_nothing(begin, device):
    before = machine.settings(device)
    agent = begin()
    assert agent.ask(wire.Wish(cpus=(0, 1), pin_mhz=1000.0)) == wire.Done()
    assert agent.ask(wire.Wish(pin_mhz=0.0)) == wire.Done()
    refused = agent.ask(wire.Wish(cpus=(0,), pin_mhz=1234.0))
    assert (refused.kind, refused.message) == ("wish", "policy0 (CPU 0-1) has no 1234 MHz")
    refused = agent.ask(wire.Wish(cpus=(0, 4095)))
    assert refused.kind == "wish"
    assert "CPU 4095 is not there or off" in refused.message
    assert machine.settings(device) == before


def test_a_device_without_cpufreq_refuses(begin, device):
    shutil.rmtree(device / "sys/devices/system/cpu/cpufreq")
    refused = measure(begin(), pin_mhz=0.0)
    assert refused.kind == "wish"
    assert "no cpufreq" in refused.message


def test_a_device_that_is_too_warm_now_refuses_since_its_limits_are_not_its_own(begin, device):
    cooler = device / "sys/class/thermal/cooling_device0"
    machine.write(cooler / "type", "cpufreq-cpu0")
    machine.write(cooler / "cur_state", "2")
    refused = measure(begin(), pin_mhz=0.0)
    assert refused.kind == "wish"
    assert refused.detail == "let it cool down first: --cool-to 50"


@pytest.fixture
def ordinary(archive, device, root, tmp_path):
    """An agent that may not write the settings, and a sudo of the test's own."""
    for path in (device / "sys/devices/system/cpu/cpufreq").glob("*/scaling_*"):
        path.chmod(0o444)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    # Root may write what nobody may, but for this capability.
    humble = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]
    agents = []

    def run():
        path = f"{bin_}{os.pathsep}{os.environ['PATH']}"
        before = humble if os.getuid() == 0 else []
        agent = machine.start(archive, device, root, before=before, environment={"PATH": path})
        agents.append(agent)
        agent.receive()
        agent.put("scratch/model.tflite", tiny_model.wide_model())
        return agent

    run.bin = bin_
    yield run
    for agent in agents:
        agent.kill()


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def test_without_the_right_nothing_is_changed_and_the_mend_is_named(ordinary, device):
    program(ordinary.bin / "sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    before = machine.settings(device)
    refused = measure(ordinary(), pin_mhz=0.0)
    assert refused.kind == "wish"
    assert "a password is required; nothing was changed" in refused.message
    governor = device / "sys/devices/system/cpu/cpufreq/policy2/scaling_governor"
    assert "NOPASSWD: /usr/bin/tee " in refused.detail
    assert f"/usr/bin/tee {governor}" in refused.detail
    assert machine.settings(device) == before


def test_sudo_is_used_where_the_user_may_not_write(ordinary, device, tmp_path):
    """The stand-in hands its words to the test, which may write, as sudo's tee does."""
    asked, answer = tmp_path / "asked", tmp_path / "answer"
    os.mkfifo(asked)
    os.mkfifo(answer)
    words = f'#!/bin/sh\nprintf "%s %s" "$*" "$(cat)" > {asked}\nread -r done < {answer}\n'
    program(ordinary.bin / "sudo", words)
    before = machine.settings(device)
    agent = ordinary()
    agent.send(request(pin_mhz=0.0))
    policies, files = 2, 3
    rights = [obey(asked, answer) for _ in range(policies * files)]
    assert machine.settings(device) == before
    changes = [obey(asked, answer) for _ in range(policies * files)]
    assert machine.settings(device) == HELD
    back = [obey(asked, answer) for _ in range(policies * (files - 1))]  # not the upper limits
    measured = agent.receive()
    assert isinstance(measured, wire.Measured), measured
    assert measured.notes == ()
    assert machine.settings(device) == before
    assert all(command[:2] == ["-n", "tee"] for command in (*rights, *changes, *back))


def obey(asked, answer):
    """What sudo was asked, done."""
    words = asked.read_text().split()
    path = Path(words[2])
    path.chmod(0o644)
    path.write_text(words[3] + "\n")
    path.chmod(0o444)
    answer.write_text("done\n")
    return words


def test_old_kernels_have_a_folder_under_each_cpu(tmp_path):
    for cpu in (0, 1, 2):
        folder = machine.policy(tmp_path, "policy9", "0 1" if cpu < 2 else "2", machine.LITTLE)
        target = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        target.parent.mkdir()
        folder.rename(target)
    shutil.rmtree(tmp_path / "sys/devices/system/cpu/cpufreq")
    found = cpufreq.policies(tmp_path)
    assert [(policy.name, policy.cpus) for policy in found] == [("cpu0", (0, 1)), ("cpu2", (2,))]
    channels = [s.channel.source for s in cpufreq.frequencies(tmp_path).sensors]
    assert channels == ["cpu0", "cpu2"]


def test_kinds_of_cores_are_those_of_cpuinfo(tmp_path):
    little, big = ("0x41", "0xd05"), ("0x41", "0xD0B")
    text = "".join(
        f"processor\t: {cpu}\nCPU implementer\t: {kind[0]}\nCPU part\t: {kind[1]}\n\n"
        for cpu, kind in enumerate((little, little, big, big))
    )
    machine.write(tmp_path / "proc/cpuinfo", text)
    machine.policy(tmp_path, "policy0", "0 1", machine.LITTLE)
    machine.policy(tmp_path, "policy2", "2 3", machine.BIG)
    assert [policy.core for policy in cpufreq.policies(tmp_path)] == ["0x41/0xd05", "0x41/0xd0b"]


def test_the_kernels_lists_of_cpus_are_read_and_written():
    assert cpufreq.numbers("0-2,5\n") == (0, 1, 2, 5)
    assert cpufreq.numbers("") == cpufreq.numbers("x-3") == ()
    assert cpufreq.listed((5, 0, 1, 2)) == "0-2,5"


def test_the_guard_has_nothing_of_the_agents_but_two_pipes(begin, device):
    agent = begin()
    running(agent, device)
    pid = guard_of(agent.process.pid)
    assert {link(pid, number).split(":")[0] for number in (0, 1)} == {"pipe"}
    assert link(pid, 2) == os.devnull
    assert os.getsid(pid) == pid != os.getsid(agent.process.pid)
    own = {link(agent.process.pid, number) for number in (0, 1)}
    assert not own & {link(pid, number) for number in (0, 1)}


def link(pid, number):
    return str(Path(f"/proc/{pid}/fd/{number}").readlink())
