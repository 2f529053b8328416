"""A home whose environments are built once a session, and the models to train."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq import places

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """Runs ``edgeq`` with ``EDGEQ_HOME`` of its own."""

    path: Path

    @property
    def environ(self):
        return {**os.environ, "EDGEQ_HOME": str(self.path), "PYTHONPATH": str(ROOT)}

    @property
    def places(self):
        return places.find({"EDGEQ_HOME": str(self.path)})

    def command(self, *words):
        return [sys.executable, "-m", "edgeq", *map(str, words)]

    def run(self, *words, status=0):
        done = subprocess.run(
            self.command(*words), env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return done


@pytest.fixture(scope="session")
def home(tmp_path_factory, built):
    path = tmp_path_factory.mktemp("home")
    (path / "cache").mkdir()
    (path / "cache" / "environments").symlink_to(built)
    return Home(path=path)


@pytest.fixture(scope="session")
def keras_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run(
        [sys.executable, "-m", "tests.qat.build_models", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder
