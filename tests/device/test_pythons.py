"""A device with each Python from 3.8 to 3.13 gets its runtime and runs the model: over a real sshd.

The processor is this computer's, since Debian has one Python for each of its releases; the boards
have 3.9, 3.11 and 3.13. The wheels are those of the index, fetched once.
"""

import json
import os
import re
from pathlib import Path

import pytest

from tests.device.choosing import some
from tests.device.someone import someone
from tests.servers import sshd

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_cnn.h5"
MINORS = range(8, 14)


def python(minor):
    """One of this computer's, by EDGEQ_TEST_PYTHONS or pyenv; None where there is none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = [Path(one) for one in os.environ.get("EDGEQ_TEST_PYTHONS", "").split(os.pathsep) if one]
    for path in [*named, *sorted(root.glob(f"versions/3.{minor}.*/bin/python3"), reverse=True)]:
        if re.search(rf"3\.{minor}(\.|$|/)", str(path)) and path.is_file():
            return path
    return None


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    return someone(tmp_path_factory.mktemp("pythons"))


@pytest.mark.parametrize("minor", some(MINORS, 8, 13))
def test_every_python_is_served(minor, person, tmp_path):
    path = python(minor)
    if path is None:
        pytest.skip(f"this computer has no Python 3.{minor}")
    with sshd.running(tmp_path / "device") as server:
        added = person.run(
            "devices", "add", f"py{minor}", "--profile", "linux", "--accept-new",
            "--host", f"{server.user}@127.0.0.1:{server.port}", "--identity", server.identity,
            "--python", path,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
        words = ("--device", f"py{minor}", DIGITS, "--runs", "12", "--duration", "0")
        done = person.run("deploy", *words, "--json", "-")
        assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["transfer"]["bytes_sent"] > 1 << 20
    runtime = report["runtime"]["name"]
    # LiteRT's first wheel is for Python 3.9.
    assert runtime == ("tflite-runtime" if minor == 8 else "LiteRT")
    assert [gate["name"] for gate in report["gates"] if not gate["passed"]] == []
