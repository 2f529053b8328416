import sys

import pytest

from edgeq.archive import agent_archive
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.session import open_session
from edgeq.transports import local, ssh
from tests.servers import sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd.running(tmp_path_factory.mktemp("sshd") / "server") as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch):
    """HOME of the host's user, empty; what the local transport sees as the device's too."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def connect(home):  # noqa: ARG001 - the keys and the configuration of nobody
    """Opens links that are closed after the test."""
    links = []

    def begin(device, **limits):
        if device.transport == "local":
            link = local.make().connect(device)
        else:
            link = ssh.make(limits=ssh.Limits(**limits)).connect(device)
        links.append(link)
        return link

    yield begin
    for link in links:
        link.close()


@pytest.fixture
def begin():
    """Starts the real agent on a device, by this Python."""
    sessions = []

    def start(link):
        session = open_session(
            link, facts_of(link), python=sys.executable, agent=agent_archive(), where="bench"
        )
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.close()


def facts_of(link):
    """The few facts that a session needs; the whole examination takes a second."""
    script = 'echo; echo "HOME $HOME"; ls "$HOME/.edgeq/agents"'
    said = link.run(["sh", "-c", script]).stdout.decode()
    home, *agents = said.partition("\nHOME ")[2].splitlines()
    return Facts(
        system="Linux",
        architecture="x86_64",
        kernel="6",
        home=home,
        root=f"{home}/.edgeq",
        agents=tuple(name.removesuffix(".pyz") for name in agents),
        wall_time_s=0.0,
    )


@pytest.fixture
def here():
    return Device(name="here", profile="host", transport="local")
