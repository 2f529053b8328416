import os
from pathlib import Path

import pytest

# Before any test imports ONNX Runtime, which else tells its maker about the models of this process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A folder where environments are built once a session, for all of its workers.

    EDGEQ_TEST_ENVIRONMENTS names one where they stay between sessions.
    """
    kept = os.environ.get("EDGEQ_TEST_ENVIRONMENTS")
    if not kept:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            return tmp_path_factory.mktemp("environments")
        kept = str(tmp_path_factory.getbasetemp().parent / "environments")
    folder = Path(kept).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
