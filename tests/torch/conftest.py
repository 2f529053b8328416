import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq import environments, places

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class User:
    """Someone whose home holds the environments already; ``models``: what they have."""

    home: Path
    models: Path

    def run(self, *words, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env={**os.environ, "EDGEQ_HOME": str(self.home), "PYTHONPATH": str(ROOT)},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done

    def convert(self, model, output, *words, status=0):
        return self.run(
            "convert", model, "--device", "host", "--precision", "float32",
            "--format", output.suffix.removeprefix("."), "-o", output, *words, status=status,
        )  # fmt: skip


@pytest.fixture(scope="session")
def user(tmp_path_factory, built):
    home = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    (home / "cache" / "environments").symlink_to(built)
    where = places.find({"EDGEQ_HOME": str(home)})
    python = environments.ensure("torch", where, lambda *_: None)
    models = tmp_path_factory.mktemp("models")
    script = Path(__file__).with_name("build_models.py")
    done = subprocess.run(
        [python, script, models], capture_output=True, text=True, check=False, cwd=models
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return User(home=home, models=models)
