import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Loaded:
    """``models``: the files; ``outcomes``: by name, the pivot's facts or the error."""

    models: Path
    outcomes: dict


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loaded")
    done = subprocess.run(
        [sys.executable, "-m", "tests.conversion.load_all", str(folder)],
        cwd=ROOT,
        env={**os.environ, "EDGEQ_TEST_TRACE": str(folder / "trace")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = json.loads((folder / "outcomes.json").read_text())
    return Loaded(models=folder / "models", outcomes=outcomes)
