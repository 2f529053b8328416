"""What a user reads where no runtime can be had: what is missing, and what would work."""

import pytest

from edgeq import provision
from edgeq.core.profile import Conversion, Profile
from edgeq.errors import PreflightError
from edgeq.runtimes import RuntimeStore
from tests.provision.conftest import Index, python
from tests.provision.test_wheels import LISTING

TFLITE = Profile(description="any")
ONNX = Profile(description="any", conversion=Conversion(format="onnx"))
NUMPY_1 = {"numpy": "1.24.2"}


@pytest.fixture
def store(tmp_path):
    return RuntimeStore(tmp_path / "wheels", Index(tmp_path, LISTING))


@pytest.mark.parametrize(
    ("profile", "changes", "pythons", "missing", "mend"),
    [
        pytest.param(
            ONNX, {"architecture": "armv7l"}, python(11, runtimes=NUMPY_1),
            "no onnxruntime for Python 3.11 on armv7l with glibc 2.36", "--format tflite",
            id="onnx-on-32-bit",
        ),
        pytest.param(
            TFLITE, {"architecture": "armv7l", "libc_version": "2.41"},
            python(13, runtimes={"numpy": "2.2.4"}),
            "for Python 3.13 on armv7l with glibc 2.41", "for Python 3.9 and 3.11",
            id="32-bit-trixie",
        ),
        pytest.param(
            TFLITE, {"architecture": "armv7l"}, python(11),
            "for Python 3.11 on armv7l", "sudo apt install python3-numpy",
            id="32-bit-without-numpy",
        ),
        pytest.param(
            TFLITE, {"architecture": "armv7l"}, python(11, runtimes={"numpy": "2.1.0"}),
            "for Python 3.11 on armv7l", "needs numpy 1, and there is 2.1.0",
            id="32-bit-numpy-2",
        ),
        pytest.param(
            TFLITE, {"architecture": "armv7l", "libc_version": "2.31"},
            python(9, runtimes=NUMPY_1),
            "for Python 3.9 on armv7l with glibc 2.31", "glibc 2.34 or newer",
            id="32-bit-old-glibc",
        ),
        pytest.param(
            TFLITE, {"architecture": "armv6l"}, python(11, runtimes=NUMPY_1),
            "on armv6l", "nothing is made for ARMv6",
            id="armv6",
        ),
        pytest.param(
            TFLITE, {"libc": "musl", "libc_version": "1.2"}, python(12),
            "on aarch64 with musl 1.2", "made for glibc",
            id="alpine",
        ),
        pytest.param(
            ONNX, {"libc": "bionic", "libc_version": "34"}, python(12),
            "on aarch64 with bionic 34", "pkg install python-numpy python-onnxruntime",
            id="termux",
        ),
        pytest.param(
            TFLITE, {"libc_version": "2.17"}, python(13),
            "for Python 3.13 on aarch64 with glibc 2.17", "a Python from 3.9 to 3.13",
            id="old-glibc",
        ),
        pytest.param(
            TFLITE, {}, python(14), "for Python 3.14 on aarch64", "a Python from 3.9 to 3.13",
            id="too-new-a-python",
        ),
    ],
)  # fmt: skip
def test_the_error_names_what_is_missing_and_what_would_work(
    facts, store, profile, changes, pythons, missing, mend
):
    with pytest.raises(PreflightError) as caught:
        provision.plan(profile, facts(pythons=(pythons,), **changes), store, "board")
    assert missing in caught.value.message
    assert mend in caught.value.hint
