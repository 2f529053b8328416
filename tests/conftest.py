import os
from pathlib import Path

import hypothesis
import pytest

# A busy machine is slow at times: no test depends on how long something took.
hypothesis.settings.register_profile("edgeq", deadline=None)
hypothesis.settings.load_profile("edgeq")

# Before any test imports ONNX Runtime, which else tells its maker about the models of this process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

DEVICE = Path(__file__).parent / "device"


def pytest_addoption(parser):
    parser.addoption("--lab", action="store_true", help="also run the device tests, on machines")


def pytest_ignore_collect(collection_path, config):
    """Device tests run only when they are asked for; not even their modules are read."""
    if collection_path.is_relative_to(DEVICE) and not config.getoption("--lab"):
        return True
    return None


def pytest_collection_modifyitems(items, config):
    """A file that is named on the command line is not ignored by pytest: leave its tests out."""
    if config.getoption("--lab"):
        return
    left_out = [item for item in items if item.path.is_relative_to(DEVICE)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--lab") and any(_holds_device_tests(word) for word in config.args):
        terminalreporter.write_line("not run: device tests, they need --lab")


def _holds_device_tests(argument):
    place = Path(argument.partition("::")[0]).resolve()
    return DEVICE.is_relative_to(place) or place.is_relative_to(DEVICE)


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
