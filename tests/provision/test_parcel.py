"""Wheels into a runtime's zip."""

import hashlib
import stat
import subprocess
import sys
import zipfile

import pytest

from edgeq import parcel, wheels
from edgeq.core.machine import PythonFacts
from edgeq.errors import FetchError
from edgeq.examination import version_tuple
from edgeq.runtimes import RuntimeStore
from tests.provision.conftest import write_wheel

WHEEL = "pkg-1.0-cp311-cp311-manylinux2014_aarch64.whl"
OTHER = "numpy-1.0-cp311-cp311-manylinux2014_aarch64.whl"


def test_what_inference_does_not_need_is_left_out(tmp_path):
    wheel = write_wheel(
        tmp_path,
        WHEEL,
        {
            "pkg/__init__.py": "",
            "pkg/core.so": b"library",
            "pkg/tests/test_x.py": "",
            "pkg/testing.py": "",
            "pkg/include/x.h": "",
            "pkg/core.pyi": "",
            "pkg.libs/libblas.so": b"",
            "pkg-1.0.dist-info/METADATA": "",
            "pkg-1.0.dist-info/RECORD": "",
            "pkg-1.0.dist-info/entry_points.txt": "",
            "pkg-1.0.dist-info/licenses/LICENSE.txt": "free",
            "pkg-1.0.data/platlib/pkg/more.py": "",
            "pkg-1.0.data/scripts/tool": "",
            "ai_edge_litert/aot/x.py": "",
            "onnxruntime/capi/libonnxruntime.so.1.31.1": "",
            "onnxruntime/capi/onnxruntime_pybind11_state.so": "library",
            "onnxruntime/quantization/quantize.py": "",
            "onnxruntime/transformers/x.py": "",
        },
    )
    parcel.build([wheel], tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == [
            "onnxruntime/capi/onnxruntime_pybind11_state.so",
            "pkg-1.0.dist-info/METADATA",
            "pkg-1.0.dist-info/licenses/LICENSE.txt",
            "pkg.libs/libblas.so",
            "pkg/__init__.py",
            "pkg/core.so",
            "pkg/more.py",
            "pkg/testing.py",
        ]


def test_the_same_wheels_give_the_same_bytes(tmp_path):
    one = write_wheel(tmp_path, WHEEL, {"pkg/b.py": "b", "pkg/a.py": "a"})
    two = write_wheel(tmp_path, OTHER, {"numpy/a.py": "a"})
    parcel.build([one, two], tmp_path / "first.zip")
    parcel.build([two, one], tmp_path / "second.zip")
    digests = {
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("first.zip", "second.zip")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", "./a", "a\\b", "a/./b"])
def test_a_wheel_with_a_hostile_name_is_refused(tmp_path, name):
    wheel = write_wheel(tmp_path, WHEEL, {name: "x"})
    with pytest.raises(FetchError, match="not a good wheel"):
        parcel.build([wheel], tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_wheel_with_a_link_is_refused(tmp_path):
    wheel = tmp_path / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        link = zipfile.ZipInfo("pkg/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(FetchError, match="no plain file"):
        parcel.build([wheel], tmp_path / "out.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_wheel_that_names_a_file_twice_is_refused(tmp_path):
    wheel = tmp_path / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/a.py", "1")
        archive.writestr("pkg/a.py", "2")
    with pytest.raises(FetchError, match="twice"):
        parcel.build([wheel], tmp_path / "out.zip")


def test_wheels_that_share_a_file_are_refused(tmp_path):
    one = write_wheel(tmp_path, WHEEL, {"pkg/a.py": "1"})
    two = write_wheel(tmp_path, OTHER, {"pkg/a.py": "2"})
    with pytest.raises(FetchError, match="another wheel"):
        parcel.build([one, two], tmp_path / "out.zip")


def test_a_truncated_wheel_is_refused_with_the_mend(tmp_path):
    wheel = write_wheel(tmp_path, WHEEL, {"pkg/a.py": "x" * 10_000})
    wheel.write_bytes(wheel.read_bytes()[:5000])
    with pytest.raises(FetchError, match="not a good wheel") as caught:
        parcel.build([wheel], tmp_path / "out.zip")
    assert f"rm {wheel}" in caught.value.hint


def test_a_wheel_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parcel, "MAX_BYTES", 1000)
    wheel = write_wheel(tmp_path, WHEEL, {"pkg/a.py": "x" * 2000})
    with pytest.raises(FetchError, match="too much"):
        parcel.glibc_needed(wheel)


@pytest.mark.parametrize(
    ("version", "needed"), [("2.34", (2, 34)), ("2.5", (2, 17)), ("2.2.5", (2, 17)), (None, (0, 0))]
)
def test_the_needs_of_a_library_are_read_from_its_symbols(tmp_path, version, needed):
    wheel = write_wheel(tmp_path, WHEEL, {"pkg/doc.txt": b"\0GLIBC_2.99\0"}, glibc=version)
    assert parcel.glibc_needed(wheel) == needed


def test_a_real_runtime_imports_and_runs_after_the_stripping(tmp_path):
    """For this very Python, from the index that pip is set up for."""
    from edgeq.archive import examine_script
    from edgeq.core.inventory import Device
    from edgeq.examination import examine
    from edgeq.transports import local

    link = local.make().connect(Device(name="here", profile="host", transport="local"))
    facts = examine(link, examine_script(), sys.executable, "here")
    python = PythonFacts(path=sys.executable, version=sys.version_info[:3])
    target = wheels.Target.of(facts, python)
    assert target.libc_version == version_tuple(facts.libc_version)
    store = RuntimeStore(tmp_path / "wheels", wheels.fetch)
    package = store.find("litert", target)
    path = store.parcel(package)
    assert path.stat().st_size < sum(wheel.size_bytes for wheel in package.wheels)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "runtime")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from importlib import metadata\n"
        "import numpy\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "assert numpy.__file__.startswith(sys.argv[1])\n"
        "Interpreter(model_content=sys.stdin.buffer.read()).allocate_tensors()\n"
        "print(metadata.version('ai-edge-litert'))\n"
    )
    from tests.fakes import tiny_model

    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, str(tmp_path / "runtime")],
        input=tiny_model.float_model(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == package.version
