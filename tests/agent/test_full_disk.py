"""The disk is full from the Nth growth on: the old release stays, and nothing is left over."""

import errno

import pytest

from edgeq import wire
from edgeq.agent.durable import Disk
from tests.agent.test_power_cut import NEW, OLD, ForkedAgent, check_recovery, served, set_up
from tests.agent.test_power_cut import start as start  # noqa: PLC0414 - a fixture
from tests.fakes import agent as agents


class FullDisk(Disk):
    """Whatever takes room fails from the change ``full_at`` on; what gives some works."""

    def __init__(self, full_at):
        super().__init__()
        self._left = full_at

    def _grow(self):
        self._left -= 1
        if self._left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write(self, descriptor, data):
        self._grow()
        super().write(descriptor, data)

    def link(self, source, target):
        self._grow()
        super().link(source, target)

    def symlink(self, text, link):
        self._grow()
        super().symlink(text, link)

    def mkdir(self, path):
        if not path.exists():
            self._grow()
        super().mkdir(path)


@pytest.fixture
def tight(root):
    """Starts an agent whose disk has room for so many changes."""
    started = []

    def begin(full_at):
        agent = agents.Agent(ForkedAgent(root, FullDisk(full_at)), root)
        started.append(agent)
        agent.receive()
        return agent

    yield begin
    for agent in started:
        agent.process.kill()


def deploy(agent):
    """As the host does it; the first failure, or None."""
    listed = agents.files_of(NEW)
    staged = agent.ask(wire.Stage("net", "v2", listed))
    if isinstance(staged, wire.Failed):
        return staged
    for name in staged.missing:
        answer = agent.put(f"{staged.folder}/{name}", NEW[name])
        if isinstance(answer, wire.Failed):
            return answer
    for request in (
        wire.Seal("net", "v2", staged.folder, listed),
        wire.Commit("net", "v2"),
    ):
        answer = agent.ask(request)
        if isinstance(answer, wire.Failed):
            return answer
    return None


@pytest.mark.parametrize("full_at", range(1, 20))
def test_a_disk_that_is_full_at_any_write(start, tight, root, full_at):
    set_up(start)
    agent = tight(full_at)
    assert agent.ask(wire.Lock("the one without room")) == wire.Done()
    failure = deploy(agent)
    agent.send(wire.Bye())
    agent.process.wait()
    if failure is None:
        assert served(root) == NEW
    else:
        assert failure.kind == "space"
        assert served(root) == OLD
        there = {path.name for path in (root / "models/net").iterdir()}
        assert there == {"current", "previous", "releases", "state.json"}
        assert {path.name for path in (root / "models/net/releases").iterdir()} == {"v0", "v1"}
    check_recovery(start, root, served(root))


def test_the_range_above_reaches_from_the_first_write_to_the_last(start, tight):
    set_up(start)
    agent = tight(19)
    agent.ask(wire.Lock("x"))
    assert deploy(agent) is None
