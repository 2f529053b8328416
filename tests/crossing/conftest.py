import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class User:
    """Someone whose home holds the environments that other tests built."""

    home: Path

    def convert(self, model, output, *words, status=0):
        command = [
            sys.executable, "-m", "edgeq", "convert", model, "--device", "host",
            "--precision", "float32", "--format", output.suffix.removeprefix("."),
            "-o", output, *words,
        ]  # fmt: skip
        done = subprocess.run(
            list(map(str, command)),
            env={**os.environ, "EDGEQ_HOME": str(self.home), "PYTHONPATH": str(ROOT)},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done


@pytest.fixture(scope="session")
def user(tmp_path_factory, built):
    home = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    (home / "cache" / "environments").symlink_to(built)
    return User(home=home)
