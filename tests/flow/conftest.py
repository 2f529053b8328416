"""The command as a user runs it: a process of its own, a home of its own, real devices."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import sshd

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_cnn.h5"
QUICK = ("--runs", "30", "--duration", "0")
LIMIT_S = 240


@dataclass(frozen=True)
class User:
    """Someone with an empty home; conversions are cached for all tests together."""

    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGEQ_")}
        kept.pop("SSH_AUTH_SOCK", None)
        return {
            **kept,
            "HOME": str(self.home),
            "EDGEQ_HOME": str(self.home / "edgeq"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **more,
        }

    def run(self, *words: object, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env=self.environment(**more),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def start(self, *words: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env=self.environment(),
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )

    def report(self, *words: object) -> dict:
        """Run a command that succeeds, with --json; its report."""
        done = self.run(words[0], "--json", "-", *words[1:])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, exit_code: int, *words: object) -> str:
        """Run a command that fails in the way of a mistake, not of a bug; what it says."""
        done = self.run(*words)
        assert done.returncode == exit_code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(scope="session")
def conversions(tmp_path_factory):
    return tmp_path_factory.mktemp("conversions")


@pytest.fixture
def user(tmp_path, conversions):
    home = tmp_path / "user"
    (home / "edgeq").mkdir(parents=True)
    (home / "edgeq" / "cache").symlink_to(conversions)
    return User(home)


@pytest.fixture
def server(tmp_path):
    with sshd.running(tmp_path / "device") as running:
        yield running


@pytest.fixture
def add(user):
    """Add a server as a device."""

    def add_device(server, name="bench", profile="linux", port=None):
        done = user.run(
            "devices", "add", name, "--profile", profile, "--accept-new",
            "--host", f"{server.user}@127.0.0.1:{port or server.port}",
            "--identity", server.identity,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return name

    return add_device


@pytest.fixture
def device(server, add):
    return add(server)
