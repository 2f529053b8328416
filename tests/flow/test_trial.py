"""Models that misbehave on the device: the runtime there does what the model's bytes say."""

import json
import shutil
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from edgeq import arrays
from edgeq.core import bundle
from edgeq.core.profile import Budgets
from tests.flow.conftest import QUICK
from tests.flow.test_deploy import current

FAKE = Path(__file__).parents[1] / "fakes" / "tflite_runtime"
PROFILE = """
version = 1
description = "a board whose runtime misbehaves"
[runtime]
kinds = ["tflite_runtime"]
[run]
processes = 1
timeout_seconds = 3.0
"""
POINTS = np.array([[0.0, 1.0], [0.5, 0.25]], np.float32)


@pytest.fixture
def python(tmp_path):
    """A Python on the device that has NumPy and the runtime."""
    venv.create(tmp_path / "venv", with_pip=False)
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = tmp_path / "venv" / "lib" / name / "site-packages"
    shutil.copytree(FAKE, packages / "tflite_runtime")
    about = packages / "tflite_runtime-2.14.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tflite-runtime\nVersion: 2.14.0\n"
    )
    numpy = Path(np.__file__).parent
    for folder in numpy.parent.glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def board(user, server, python, tmp_path):
    profile = tmp_path / "board.toml"
    profile.write_text(PROFILE)
    done = user.run(
        "devices", "add", "board", "--profile", profile, "--accept-new", "--python", python,
        "--host", f"{server.user}@127.0.0.1:{server.port}", "--identity", server.identity,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "board"


def pack(folder, word, offset=0.0):
    """A bundle whose model does what ``word`` says; the host's answers differ by ``offset``."""
    files = {
        "model.tflite": word.encode(),
        bundle.GOLDEN_INPUTS: arrays.pack([POINTS]),
        bundle.GOLDEN_OUTPUTS: arrays.pack([POINTS + np.float32(offset)]),
        bundle.PREPROCESSING: b"{}\n",
    }
    manifest = bundle.Manifest(
        name="model",
        version=1,
        profile="board",
        format="tflite",
        precision="int8",
        requested_precision="int8",
        inputs=(bundle.Tensor(name="x", shape=(1, 2), dtype="float32"),),
        outputs=(bundle.Tensor(name="y", shape=(1, 2), dtype="float32"),),
        files=bundle.describe(files),
        source=bundle.SourceEntry(name="m.h5", kind="keras-h5", sha256="a" * 64, size_bytes=9),
        tools={},
        quality=bundle.QualityEntry(samples=2, origin="random"),
        budgets=Budgets(),
    )
    path = folder / f"{word}{offset}.edgeq"
    path.write_bytes(bundle.pack(bundle.seal(manifest, files)))
    return path


@pytest.mark.parametrize(
    ("word", "offset", "said"),
    [
        ("crash", 0.0, "SIGSEGV"),
        ("hang", 0.0, "hung"),
        ("leave", 0.0, "7"),
        ("refuse", 0.0, "not a model"),
        ("fine", 0.5, "parity"),
    ],
)
def test_a_model_that_fails_its_trial_is_taken_back(
    user, server, board, tmp_path, word, offset, said
):
    user.report("deploy", "--device", board, pack(tmp_path, "fine"), *QUICK)
    good = current(server.home, "model")
    message = user.fails(3, "deploy", "--device", board, pack(tmp_path, word, offset), *QUICK)
    assert said in message
    assert current(server.home, "model") == good
    releases = server.home / ".edgeq" / "models" / "model" / "releases"
    assert [path.name for path in releases.iterdir()] == [good]
    kept = json.loads(user.run("runs", "list", "--json").stdout)[0]
    assert kept["latency"] is None
    assert kept["verdict"]["status"] != "valid"
    assert not all(gate["passed"] for gate in kept["gates"])
