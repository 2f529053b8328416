"""SIGKILL at every write, sync and rename: the device serves the old or the new release, whole."""

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from edgeq import wire
from edgeq.agent.durable import Disk
from edgeq.agent.layout import Layout
from edgeq.agent.ports import HostGoneError
from edgeq.agent.serve import Session
from edgeq.agent.talk import Talk
from tests.fakes import agent as agents

OLD = {"model.tflite": b"old weights", "golden.npz": b"golden", "manifest.json": b"{old}"}
NEW = {"model.tflite": b"new weights", "golden.npz": b"golden", "manifest.json": b"{new}"}
OLDER = {"model.tflite": b"older weights", "manifest.json": b"{older}"}


class ForkedAgent:
    """The agent's session in a fork of this process: as mortal as a real one, sooner started."""

    def __init__(self, root, disk):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            _serve(root, theirs.fileno(), disk)
        theirs.close()
        self.stdin, self.stdout = ours.makefile("wb"), ours.makefile("rb", buffering=0)
        ours.close()

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self, _timeout_s=None):
        status, self.pid = os.waitpid(self.pid, 0)[1] if self.pid else 0, 0
        return status


def _serve(root, descriptor, disk):
    """Never returns, whatever happens: this is a fork of the test runner."""
    scratch = root / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        Session(Layout(root, scratch), Talk(descriptor, descriptor), disk, Path("/")).run()
    except HostGoneError:
        pass
    finally:
        os._exit(0)


@pytest.fixture
def start(root):
    started = []

    def begin(fault_at=0):
        agent = agents.Agent(ForkedAgent(root, Disk(fault_at)), root)
        started.append(agent)
        agent.receive()
        return agent

    yield begin
    for agent in started:
        agent.process.kill()


def served(root, link="current"):
    folder = root / "models/net" / link
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def set_up(start):
    agent = start()
    agent.ask(wire.Lock("before"))
    agent.deploy("net", "v0", OLDER)
    agent.deploy("net", "v1", OLD)
    leave(agent)


def leave(agent):
    agent.send(wire.Bye())
    agent.process.wait()


def deploy(agent):
    agent.deploy("net", "v2", NEW)


def discard(agent):
    agent.ask(wire.Discard("net", "v1", "parity"))


def roll_back(agent):
    agent.ask(wire.Rollback("net"))


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [(deploy, OLD, NEW), (roll_back, OLD, OLDER), (discard, OLD, OLDER)],
    ids=["deploy", "rollback", "discard"],
)
def test_a_kill_at_any_moment_leaves_old_or_new(start, root, tmp_path, change, old, new):
    ends = []
    set_up(start)
    models, snapshot = root / "models", tmp_path / "snapshot"
    models.rename(snapshot)
    for fault_at in range(1, 200):
        shutil.copytree(snapshot, models, symlinks=True)
        agent = start(fault_at)
        try:
            agent.ask(wire.Lock("the one that is cut"))
            change(agent)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            cut = True
        else:
            cut = False
        agent.kill()
        ends.append(served(root))
        assert ends[-1] in (old, new), f"torn at change {fault_at}"
        check_recovery(start, root, ends[-1])
        shutil.rmtree(models)
        if not cut:
            break
    assert ends[0] == old
    assert ends[-1] == new
    assert len(ends) > 10


def check_recovery(start, root, before):
    """The next session finds no loose ends, serves the same, and can deploy."""
    agent = start()
    assert agent.ask(wire.Lock("after")) == wire.Done()
    assert served(root) == before
    (releases,) = agent.ask(wire.ListReleases()).models
    assert releases.previous != releases.current
    if (root / "models/net/previous").is_symlink():
        assert served(root, "previous") in (OLDER, OLD, NEW)
    answer = agent.deploy("net", "v2", NEW)
    assert answer.current == "v2"
    assert served(root) == NEW
    loose = [path.name for path in (root / "models/net").iterdir() if path.name.startswith(".")]
    assert loose == []
    leave(agent)


def test_the_agent_itself_dies_at_the_change_it_is_told(archive, root):
    agent = agents.start(archive, root, EDGEQ_FAULT_AT="3")
    try:
        agent.receive()
        agent.ask(wire.Lock("me"))
        with pytest.raises(EOFError):
            agent.deploy("net", "v1", OLD)
        assert agent.process.wait(10) == -signal.SIGKILL
    finally:
        agent.kill()
