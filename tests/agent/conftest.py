import contextlib
import os
import sys
from pathlib import Path

import pytest

from edgeq.archive import agent_archive
from tests.fakes import agent as agents


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(agent_archive())
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "device"


@pytest.fixture
def start(archive, root):
    """Starts agents on the same device; each has said hello."""
    with contextlib.ExitStack() as stack:

        def begin(**environment):
            agent = agents.start(archive, root, **environment)
            stack.callback(agent.kill)
            agent.hello = agent.receive()
            return agent

        yield begin


@pytest.fixture
def agent(start):
    return start()


@pytest.fixture(scope="module")
def lasting(archive, tmp_path_factory):
    """One agent for a whole file, whatever its children went through."""
    agent = agents.start(archive, tmp_path_factory.mktemp("lasting") / "device")
    agent.receive()
    yield agent
    agent.kill()


@pytest.fixture
def locked(agent):
    """An agent that holds the device's lock."""
    from edgeq import wire

    assert agent.ask(wire.Lock("tester")) == wire.Done()
    return agent


def pythons():
    """This Python, and the others of 3.8 to 3.13 that are here: EDGEQ_TEST_PYTHONS, or pyenv's."""
    named = os.environ.get("EDGEQ_TEST_PYTHONS", "").split(os.pathsep)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [path for path in named if path] or [
        str(path)
        for minor in (8, 9, 10, 12, 13)
        for path in sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3"))[-1:]
    ]
    return [sys.executable, *found]


@pytest.fixture(params=pythons(), ids=lambda path: path.replace("/bin/python3", "")[-12:])
def python(request):
    return request.param
