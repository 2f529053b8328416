import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Built:
    """``folder``: .tflite files and samples; ``parameters``: as Keras counts them."""

    folder: Path
    parameters: dict


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [sys.executable, "-m", "tests.inspection.build_models", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return Built(folder=folder, parameters=json.loads((folder / "facts.json").read_text()))


@pytest.fixture
def edgeq(tmp_path):
    """Run the command line; what it left behind."""

    def run(*words, columns=None):
        environment = {**os.environ, "EDGEQ_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        if columns:
            environment["COLUMNS"] = str(columns)
        return subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip

    return run
