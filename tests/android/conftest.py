"""Phones of the tests' own behind the stock adb, whose server is private too."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.transports import adb as transport
from tests.android import phone

NO_ADB = "adb is not installed: sudo apt install adb"


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory):
    """The surroundings of an adb server of the tests' own."""
    if not shutil.which("adb"):
        pytest.skip(NO_ADB)
    home = tmp_path_factory.mktemp("adb-home")
    environment = {
        **os.environ,
        "HOME": str(home),
        "ANDROID_ADB_SERVER_PORT": str(phone.free_port()),
    }
    for name in ("ADB", "ANDROID_SERIAL", "ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS"):
        environment.pop(name, None)
    yield environment
    subprocess.run(["adb", "kill-server"], env=environment, check=False, capture_output=True)


@pytest.fixture
def adb_environment(adb_server):
    """The same, with no device in the server's list."""
    yield dict(adb_server)
    subprocess.run(["adb", "disconnect"], env=adb_server, check=False, capture_output=True)


@dataclass(frozen=True)
class Bench:
    """Where phones are made."""

    folder: Path
    environment: dict[str, str]
    stack: ExitStack

    def phone(self, name: str = "phone", **options: object) -> phone.Phone:
        made = phone.running(self.folder / name, phone.Options(**options))
        return self.stack.enter_context(made)

    def adb(self, *words: str) -> str:
        done = subprocess.run(
            ["adb", *words], env=self.environment, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        return done.stdout + done.stderr

    def transport(self, **limits: float) -> transport.AdbTransport:
        return transport.make(self.environment, transport.Limits(**limits))


@pytest.fixture
def bench(tmp_path, adb_environment):
    with ExitStack() as stack:
        yield Bench(tmp_path, adb_environment, stack)


PhoneMaker = Callable[..., phone.Phone]
