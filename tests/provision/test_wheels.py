"""Which wheels a machine can take. Listing and needs as they were on PyPI in November 2026."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

from edgeq import wheels
from edgeq.errors import FetchError
from edgeq.runtimes import RuntimeStore, needs_numpy_1
from edgeq.wheels import Target
from tests.provision.conftest import Index

OWN = metadata.version("ai-edge-litert")
OWN_ONNX = metadata.version("onnxruntime")
# Name of the wheel, and the glibc that its libraries ask for, which the tag may hide.
LISTING = [
    *((f"ai_edge_litert-{v}-cp3{m}-cp3{m}-manylinux_2_27_aarch64.whl", "2.34")
      for m in (10, 11, 12, 13) for v in ("2.3.0", OWN)),
    *((f"ai_edge_litert-2.1.0-cp3{m}-cp3{m}-manylinux_2_27_aarch64.whl", "2.27")
      for m in (9, 10, 11, 12, 13)),
    *((f"tflite_runtime-2.14.0-cp3{m}-cp3{m}-manylinux_2_34_{a}.whl", "2.34")
      for m in (9, 10, 11) for a in ("aarch64", "armv7l")),
    *((f"tflite_runtime-2.13.0-cp3{m}-cp3{m}-manylinux2014_aarch64.whl", "2.17")
      for m in (8, 9, 10, 11)),
    *((f"onnxruntime-{OWN_ONNX}-cp3{m}-cp3{m}-manylinux_2_28_aarch64.whl", "2.28")
      for m in (11, 12, 13)),
    ("onnxruntime-1.23.2-cp310-cp310-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", "2.27"),
    *((f"onnxruntime-1.19.2-cp3{m}-cp3{m}-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
       "2.27") for m in (8, 9, 10, 11)),
    *((f"onnxruntime-1.16.3-cp3{m}-cp3{m}-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "2.17")
      for m in (8, 9, 10, 11)),
    *((f"numpy-1.26.4-cp3{m}-cp3{m}-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "2.17")
      for m in (9, 10, 11, 12)),
    ("numpy-1.24.4-cp38-cp38-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "2.17"),
    ("numpy-2.0.2-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "2.17"),
    ("numpy-2.2.6-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "2.17"),
    *((f"numpy-2.4.6-cp3{m}-cp3{m}-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", "2.27")
      for m in (11, 12, 13)),
]  # fmt: skip


def target(minor=11, architecture="aarch64", libc="glibc", version=(2, 36)):
    return Target(architecture=architecture, libc=libc, libc_version=version, python=(3, minor))


@pytest.fixture
def store(tmp_path):
    return RuntimeStore(tmp_path / "wheels", Index(tmp_path, LISTING))


@pytest.mark.parametrize(
    ("device", "litert", "tflite_runtime"),
    [
        (target(11), (OWN, "2.4.6"), ("2.14.0", "1.26.4")),  # Raspberry Pi OS bookworm
        (target(13, version=(2, 41)), (OWN, "2.4.6"), None),  # trixie
        (target(10, version=(2, 35)), (OWN, "2.2.6"), ("2.14.0", "1.26.4")),  # JetPack 6
        (target(9, version=(2, 31)), ("2.1.0", "2.0.2"), ("2.13.0", "1.26.4")),
        (target(10, version=(2, 31)), ("2.1.0", "2.2.6"), ("2.13.0", "1.26.4")),  # the tag lies
        (target(8, version=(2, 31)), None, ("2.13.0", "1.24.4")),  # JetPack 5
        (target(11, "armv7l"), None, ("2.14.0",)),  # numpy from the distribution
        (target(12, libc="bionic", version=(34,)), None, None),
        (target(12, libc="musl", version=(1, 2)), None, None),
    ],
    ids=lambda value: value.name if isinstance(value, Target) else "",
)
def test_the_best_runtime_of_each_device_is_found(store, device, litert, tflite_runtime):
    for kind, expected in (("litert", litert), ("tflite_runtime", tflite_runtime)):
        package = store.find(kind, device)
        found = package and tuple(wheel.version for wheel in package.wheels)
        assert found == expected


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (target(11), (OWN_ONNX, "2.4.6")),  # Raspberry Pi OS bookworm
        (target(13, version=(2, 41)), (OWN_ONNX, "2.4.6")),  # trixie
        (target(10, version=(2, 35)), ("1.23.2", "2.2.6")),  # JetPack 6
        (target(9, version=(2, 31)), ("1.19.2", "2.0.2")),
        (target(8, version=(2, 31)), ("1.19.2", "1.24.4")),  # JetPack 5
        (target(9, version=(2, 17)), ("1.16.3", "1.26.4")),  # built for NumPy 1
        (target(11, "armv7l"), None),
        (target(12, libc="musl", version=(1, 2)), None),
    ],
    ids=lambda value: value.name if isinstance(value, Target) else "",
)
def test_the_best_onnxruntime_of_each_device_is_found_with_a_numpy_it_takes(
    store, device, expected
):
    package = store.find("onnxruntime", device)
    assert (package and tuple(wheel.version for wheel in package.wheels)) == expected


@pytest.mark.parametrize(
    ("kind", "version", "needs"),
    [
        ("tflite_runtime", "2.14.0", True),
        ("litert", "2.3.0", False),
        ("onnxruntime", "1.18.1", True),
        ("onnxruntime", "1.19.0", False),
        ("onnxruntime", "1.31.1", False),
        ("onnxruntime", "unknown", False),
    ],
)
def test_runtimes_built_for_numpy_1_are_known(kind, version, needs):
    assert needs_numpy_1(kind, version) is needs


def test_what_was_resolved_once_asks_nobody_again(tmp_path):
    index = Index(tmp_path, LISTING)
    first = RuntimeStore(tmp_path / "wheels", index)
    found = first.find("litert", target()), first.find("litert", target(8))
    asked = len(index.asked)
    again = RuntimeStore(tmp_path / "wheels", index)
    assert (again.find("litert", target()), again.find("litert", target(8))) == found
    assert len(index.asked) == asked


def test_a_wheel_that_was_deleted_is_fetched_again(tmp_path):
    index = Index(tmp_path, LISTING)
    store = RuntimeStore(tmp_path / "wheels", index)
    package = store.find("litert", target())
    (tmp_path / "wheels" / package.wheels[0].file).unlink()
    asked = len(index.asked)
    assert store.find("litert", target()) == package
    assert len(index.asked) > asked


def test_a_damaged_note_is_resolved_again(tmp_path):
    store = RuntimeStore(tmp_path / "wheels", Index(tmp_path, LISTING))
    package = store.find("litert", target())
    for note in (tmp_path / "wheels").glob("*.json"):
        note.write_text("{")
    assert store.find("litert", target()) == package


def test_older_versions_are_found_below_a_version(store):
    assert store.find("litert", target(), below="2.3.0").version == "2.1.0"
    assert store.find("litert", target(), below="2.1.0") is None


def test_platforms_are_all_that_the_device_takes_and_none_that_it_does_not():
    platforms = target(version=(2, 31)).platforms
    assert platforms[0] == "manylinux_2_31_aarch64"
    assert "manylinux2014_aarch64" in platforms
    assert "manylinux_2_32_aarch64" not in platforms
    assert not any(platform.startswith("manylinux1_") for platform in platforms)
    assert "manylinux1_x86_64" in target(architecture="x86_64").platforms
    assert target(libc="musl", version=(1, 2)).platforms[0] == "musllinux_1_2_aarch64"
    assert target(libc="bionic", version=(34,)).platforms == ()
    assert target(libc=None, version=()).platforms == ()


@pytest.mark.parametrize(
    ("wheel", "takes"),
    [
        ("x-1.0-cp311-cp311-manylinux_2_36_aarch64.whl", True),
        ("x-1.0-cp36-abi3-manylinux2014_aarch64.whl", True),
        ("x-1.0-py3-none-any.whl", True),
        ("x-1.0-cp311-cp311-manylinux_2_37_aarch64.whl", False),
        ("x-1.0-cp312-cp312-manylinux_2_17_aarch64.whl", False),
        ("x-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", False),
        ("x-1.0-cp311-cp311-musllinux_1_2_aarch64.whl", False),
        ("no wheel", False),
    ],
)
def test_a_wheel_is_told_by_its_name(wheel, takes):
    assert target().takes(wheel) is takes


def test_no_internet_is_told_and_is_not_taken_for_no_wheel(tmp_path, monkeypatch):
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(FetchError, match="could not be fetched") as caught:
        wheels.fetch("numpy", target(), tmp_path / "wheels")
    assert "online" in caught.value.hint
    assert list((tmp_path / "wheels").iterdir()) == []


def test_an_index_without_the_wheel_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    assert wheels.fetch("numpy", target(), tmp_path / "wheels") is None


def test_the_users_own_mirror_is_asked(tmp_path, monkeypatch):
    from tests.provision.conftest import write_wheel

    name = "numpy-9.9-cp311-cp311-manylinux_2_17_aarch64.whl"
    info = {
        "numpy-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 9.9\n",
        "numpy-9.9.dist-info/WHEEL": "Wheel-Version: 1.0\n",
        "numpy-9.9.dist-info/RECORD": "",
    }
    write_wheel(tmp_path / "links", name, info)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    path = wheels.fetch("numpy", target(), tmp_path / "wheels")
    assert path == tmp_path / "wheels" / name
    assert wheels.fetch("numpy", target(9), tmp_path / "wheels") is None


def test_pip_is_quiet_on_the_terminal(tmp_path):
    code = (
        "import sys, pathlib\nfrom edgeq import wheels\nfrom edgeq.errors import FetchError\n"
        "t = wheels.Target(architecture='aarch64', libc='glibc', libc_version=(2, 36),"
        " python=(3, 11))\n"
        "try: wheels.fetch('no-such-package-of-edgeq', t, pathlib.Path(sys.argv[1]))\n"
        "except FetchError: pass\n"
    )
    environ = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
    )
    assert not re.search(r"\S", done.stdout + done.stderr)
