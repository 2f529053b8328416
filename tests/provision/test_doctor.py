"""What the doctor says of a device's runtime, where a GPU is asked for."""

import pytest

from edgeq import doctor, registry
from edgeq.core.inventory import Device
from edgeq.runtimes import RuntimeStore
from tests.provision.conftest import Index, python
from tests.provision.test_wheels import LISTING

JETSON = Device(name="jetson", profile="jetson-orin-nano-gpu", host="10.0.0.7", user="me")
INSTALLED = {"numpy": "1.26.4", "onnxruntime": "1.23.0"}


@pytest.fixture
def store(tmp_path):
    return RuntimeStore(tmp_path / "wheels", Index(tmp_path, LISTING))


@pytest.mark.parametrize(
    ("packages", "level", "said"),
    [
        ({"onnxruntime": "onnxruntime-gpu"}, "ok", "onnxruntime-gpu 1.23.0, installed there"),
        ({"onnxruntime": "onnxruntime"}, "note", "onnxruntime 1.23.0, installed there"),
        (None, "note", "onnxruntime 1.23.2, to be sent"),
    ],
)
def test_an_onnxruntime_without_the_gpu_is_noted(facts, store, packages, level, said):
    runtimes = {} if packages is None else INSTALLED
    own = python(10, runtimes=runtimes, packages=packages or {})
    found = facts(libc_version="2.35", pythons=(own,))
    profile = registry.profile("jetson-orin-nano-gpu")
    finding = doctor._runtime(profile, doctor._plan(profile, found, JETSON, store))
    assert (finding.level, said in finding.found) == (level, True), finding
    assert ("install onnxruntime-gpu there" in finding.then) == (level == "note")
