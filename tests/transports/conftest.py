import os

import pytest

from tests.servers import sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with an ed25519 host key, shared by a file's tests."""
    with sshd.running(tmp_path_factory.mktemp("sshd") / "server") as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The host user's HOME, empty; no SSH agent."""
    folder = tmp_path / "user"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def environ(home):
    return {**os.environ, "HOME": str(home)}
