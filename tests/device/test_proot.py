"""A Debian under proot, as Termux's proot-distro runs one: glibc, a made-up root, no rights.

Debian's own proot and this computer's files stand for it; the processor is this computer's.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.device.someone import someone
from tests.servers import sshd

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_cnn.h5"
NOBODY = 65534
LIMIT_S = 60.0
ENTER = 'exec {} proot -0 -r / -w "$HOME" /bin/sh -c "$SSH_ORIGINAL_COMMAND"'


@pytest.fixture
def phone():
    """A server whose sessions run under proot, without rights if the server has some."""
    if not shutil.which("proot"):
        pytest.skip("no proot here: sudo apt-get install proot")
    lower = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups" if not os.getuid() else ""
    options = sshd.Options(startup=ENTER.format(lower))
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory() as top, sshd.running(Path(top, "d"), options) as server:
        if lower:
            for folder in (Path(top), server.folder):
                folder.chmod(0o755)
            os.chown(server.home, NOBODY, NOBODY)
        yield server


@pytest.fixture
def user(phone, tmp_path):
    person = someone(tmp_path / "user")
    for name, profile in (("phone", "linux"), ("termux", "android-termux")):
        added = person.run(
            "devices", "add", name, "--profile", profile, "--accept-new",
            "--host", f"{phone.user}@127.0.0.1:{phone.port}", "--identity", phone.identity,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
    return person


def deploy(user, *words):
    words = ("--device", "phone", DIGITS, "--runs", "12", "--duration", "0", "--json", "-", *words)
    done = user.run("deploy", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agents(phone):
    """Processes that run in the device's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(os.fsencode(phone.home / ".edgeq")) for word in words):
            found.append(int(entry.parent.name))
    return found


def test_wheels_run_there_and_a_second_deploy_sends_nothing(phone, user):
    first = deploy(user)
    assert first["transfer"]["bytes_sent"] > 1 << 20
    assert first["runtime"]["name"] == "LiteRT"
    assert [gate["name"] for gate in first["gates"] if not gate["passed"]] == []
    assert deploy(user)["transfer"]["bytes_sent"] == 0
    served = phone.home / ".edgeq/models/digits_cnn/current"
    before = served.resolve()
    deploy(user, "--precision", "fp16")
    assert served.resolve() != before
    assert user.run("rollback", "--device", "phone").returncode == 0
    assert served.resolve() == before
    assert agents(phone) == []


def test_nothing_is_left_when_edgeq_is_killed(phone, user):
    words = ("--device", "phone", DIGITS, "--duration", "60")
    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", "deploy", *words],
        cwd=user.home,
        env=user._environment(os.environ),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert any("device: run" in line for line in process.stderr)
        assert agents(phone)
        process.send_signal(signal.SIGKILL)
    end_s = time.monotonic() + LIMIT_S
    while agents(phone) and time.monotonic() < end_s:
        time.sleep(0.2)
    assert agents(phone) == []
    assert list((phone.home / ".edgeq/scratch").iterdir()) == []
    deploy(user)


def test_the_profile_of_termux_itself_is_refused(user):
    done = user.run("deploy", "--device", "termux", DIGITS)
    assert done.returncode == 1
    assert "glibc" in done.stderr
    assert "  try: " in done.stderr
