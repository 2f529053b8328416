"""The clock of an emulated board is held and set back, through its real cpufreq driver.

The agent needs no model for that: it holds the clock while it looks at the idle board.
"""

import contextlib
import os
import subprocess
import threading
import time

import pytest

from edgeq import wire
from edgeq.archive import agent_archive
from tests.fakes.agent import Agent
from tests.lab import lab

FOLDER = "/sys/devices/system/cpu/cpufreq/policy0"
HELD = ["performance", "1800000", "1800000"]
LIMIT_S = 240.0
MODEL = wire.Runtime("litert")
SUDOERS = "/etc/sudoers.d/010_pi-nopasswd"


@pytest.fixture(scope="module")
def board():
    machine = lab.up("frequency", "pi4")
    subprocess.run(
        [*machine.ssh_command(), "cat > agent.pyz; sync"],
        input=agent_archive(),
        check=True,
        timeout=LIMIT_S,
    )
    yield machine
    machine.down()


@pytest.fixture(autouse=True)
def calm(board):
    board.set(temperature_c=45.0, cap_mhz=0, throttled=0)
    yield
    board.link(up=True)


@pytest.fixture
def begin(board):
    agents = []

    def run():
        agent = Agent(
            subprocess.Popen(
                [*board.ssh_command(), "exec python3 -B agent.pyz serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ),
            board.folder,
        )
        agents.append(agent)
        threading.Thread(target=beat, args=(agent, over), daemon=True).start()
        agent.hello = agent.receive()
        return agent

    over = threading.Event()
    yield run
    over.set()
    for agent in agents:
        agent.kill()


def beat(agent, over):
    """An agent that hears nothing of its host for long goes."""
    while not over.wait(3.0):
        with contextlib.suppress(OSError, ValueError):
            os.write(agent.process.stdin.fileno(), wire.HEARTBEAT)


def request(**options):
    return wire.Measure("/nowhere.tflite", "", MODEL, processes=1, runs=1, **options)


def settings(board):
    files = " ".join(f"{FOLDER}/scaling_{name}" for name in ("governor", "min_freq", "max_freq"))
    return board.root(f"cat {files}").split()


def hold(board, agent, seconds=1000.0):
    """The clock is held while the agent lets the board idle; what was set before."""
    before = settings(board)
    assert before != HELD
    agent.send(request(pin_mhz=0.0, idle_s=seconds, idle_always=True))
    wait_until(board, HELD)
    return before


def wait_until(board, values):
    end_s = time.monotonic() + LIMIT_S
    while settings(board) != values:
        assert time.monotonic() < end_s, settings(board)
        time.sleep(0.2)


def agents_of(board, word):
    return board.root(f"pgrep -f '[a]gent.pyz {word}' || true").split()


@pytest.mark.long
def test_it_is_held_and_set_back_at_the_end(board, begin):
    agent = begin()
    before = hold(board, agent, seconds=30.0)
    failed = agent.receive()  # there is no model: the run ends in an error
    assert isinstance(failed, wire.Failed), failed
    assert settings(board) == before
    assert agents_of(board, "guard") == []
    assert board.root("find /home/pi/.edgeq -name frequency.json") == ""


def test_it_is_set_back_when_the_agent_is_killed(board, begin):
    before = hold(board, begin())
    board.root("kill -9 " + " ".join(agents_of(board, "serve")))
    wait_until(board, before)


@pytest.mark.long
def test_it_is_set_back_when_the_whole_session_is_killed(board, begin):
    """Shell, agent and the sshd that serves them: all of the user's but the guard."""
    before = hold(board, begin())
    board.root("kill -9 $(pgrep -f '[s]shd: pi') $(pgrep -f '[a]gent.pyz serve')")
    wait_until(board, before)


def test_it_is_set_back_when_the_cable_is_pulled(board, begin):
    before = hold(board, begin())
    board.link(up=False)
    wait_until(board, before)


@pytest.mark.long
def test_it_is_set_back_when_the_host_hangs_up(board, begin):
    agent = begin()
    before = hold(board, agent)
    agent.process.stdin.close()
    wait_until(board, before)


@pytest.mark.long
def test_the_next_agent_sets_it_back_when_the_guard_was_killed_too(board, begin):
    before = hold(board, begin())
    guard, serve = agents_of(board, "guard"), agents_of(board, "serve")
    board.root("kill -9 " + " ".join([*guard, *serve]))
    assert settings(board) == HELD
    begin()
    assert settings(board) == before


@pytest.mark.long
def test_after_a_power_cut_the_kernels_own_values_apply(board, begin):
    before = hold(board, begin())
    board.reset()
    assert settings(board) == before
    begin()
    assert settings(board) == before
    assert board.root("find /home/pi/.edgeq -name frequency.json") == ""


@pytest.mark.long
def test_a_frequency_is_one_that_the_driver_has(begin):
    refused = begin().ask(request(pin_mhz=1234.0))
    assert (refused.kind, refused.message) == ("wish", "policy0 (CPU 0-3) has no 1234 MHz")
    assert "600, 700, 800" in refused.detail


@pytest.mark.long
def test_without_the_right_it_is_refused_with_the_mend_and_nothing_changes(board, begin):
    before = settings(board)
    board.root(f"mv {SUDOERS} /root/kept")
    try:
        refused = begin().ask(request(pin_mhz=0.0))
    finally:
        board.root(f"mv /root/kept {SUDOERS}")
    assert refused.kind == "wish"
    assert "nothing was changed" in refused.message
    assert f"NOPASSWD: /usr/bin/tee {FOLDER}/scaling_governor" in refused.detail
    assert settings(board) == before


def test_what_the_mend_says_is_right_enough(board, begin):
    """The line for sudoers that the refusal gives, and no more, lets it be held."""
    before = settings(board)
    board.root(f"mv {SUDOERS} /root/kept")
    try:
        refused = begin().ask(request(pin_mhz=0.0))
        rule = refused.detail.partition("visudo: ")[2]
        board.root(f"umask 0227; echo '{rule}' > /etc/sudoers.d/edgeq; visudo -c")
        agent = begin()
        held = hold(board, agent)
        agent.process.stdin.close()
        wait_until(board, before)
    finally:
        board.root(f"rm -f /etc/sudoers.d/edgeq; mv /root/kept {SUDOERS}")
    assert held == before
