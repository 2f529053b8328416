"""Which runtime a device gets, and what happens when it does not run there."""

import dataclasses

import pytest

from edgeq import provision, wire
from edgeq.core.profile import Conversion, Machine, Profile, RuntimeChoice, System
from edgeq.errors import PreflightError, SpaceError
from edgeq.runtimes import RuntimeStore
from tests.provision.conftest import Index, python
from tests.provision.test_wheels import LISTING, OWN, OWN_ONNX

ONNX = Profile(description="x", conversion=Conversion(format="onnx"))
GPU = Profile(
    description="x",
    conversion=Conversion(format="onnx"),
    runtime=RuntimeChoice(
        providers=("TensorRT", "CUDA", "CPU"), arena=False, graph_optimization="extended"
    ),
)
LINUX = Profile(description="any")
BOTH = {"litert": OWN, "numpy": "2.4.6"}


class Device:
    """What ensure needs of a session; ``runs`` tells which runtimes import."""

    def __init__(self, runs):
        self.runs = runs
        self.put_paths = []
        self.unpacked = []
        self.probed = []

    def put(self, path, data, sha256, on_progress):
        on_progress("push", 1, 1)
        self.put_paths.append((path, sha256))
        return data.stat().st_size

    def unpack(self, path, into, on_progress):
        assert path == self.put_paths[-1][0]
        on_progress("unpack", 1, 1)
        self.unpacked.append(into)

    def probe(self, runtime):
        self.probed.append(runtime)
        if self.runs(runtime, len(self.probed)):
            return wire.Probed(ok=True, name=runtime.kind, version="1", numpy_version="2")
        return wire.Probed(ok=False, detail="Traceback\nImportError: GLIBC_2.99 not found")


@pytest.fixture
def index(tmp_path):
    return Index(tmp_path, LISTING)


@pytest.fixture
def store(tmp_path, index):
    return RuntimeStore(tmp_path / "wheels", index)


def silent(_phase, _done, _total):
    pass


def ensure(device, plan, facts, store, profile=LINUX):
    return provision.ensure(device, plan, profile, facts, store, silent)


def test_an_installed_runtime_is_used_and_nothing_is_fetched(facts, store, index):
    found = facts(pythons=(python(runtimes=BOTH),))
    plan = provision.plan(LINUX, found, store, "pi")
    assert (plan.choice.origin, plan.choice.kind, plan.choice.send_bytes) == (
        "installed", "litert", 0,
    )  # fmt: skip
    ready = ensure(Device(lambda *_: True), plan, found, store)
    assert ready.runtime == wire.Runtime(kind="litert", paths=(), threads=1)
    assert ready.bytes_sent == 0
    assert index.asked == []


def test_an_installed_runtime_of_another_python_is_found(facts, store):
    found = facts(
        pythons=(
            python(11),
            python(9, path="/opt/python3.9/bin/python3", runtimes={**BOTH, "litert": "2.1.0"}),
        )
    )
    plan = provision.plan(LINUX, found, store, "pi")
    assert plan.python.path == "/opt/python3.9/bin/python3"


@pytest.mark.parametrize(
    "runtimes", [{"litert": "2.3.0"}, {"litert": "1.0.1", "numpy": "2"}, {"numpy": "2"}]
)
def test_an_installed_runtime_that_is_old_or_lacks_numpy_is_not_used(facts, store, runtimes):
    plan = provision.plan(LINUX, facts(pythons=(python(runtimes=runtimes),)), store, "pi")
    assert plan.choice.origin == "wheels"


def test_wheels_are_sent_once(facts, store):
    found = facts()
    plan = provision.plan(LINUX, found, store, "pi")
    device = Device(lambda *_: True)
    ready = ensure(device, plan, found, store)
    assert ready.bytes_sent == plan.choice.send_bytes > 0
    assert [f"runtimes/{plan.choice.package.folder}"] == device.unpacked
    assert ready.runtime.paths == tuple(device.unpacked)

    later = facts(runtimes=(plan.choice.package.folder,))
    again = provision.plan(LINUX, later, store, "pi")
    assert (again.choice.origin, again.choice.send_bytes) == ("provisioned", 0)
    device = Device(lambda *_: True)
    assert ensure(device, again, later, store).bytes_sent == 0
    assert device.put_paths == []


def test_the_profiles_order_is_kept(facts, store):
    profile = Profile(
        description="x", runtime=RuntimeChoice(kinds=("tflite_runtime", "litert"), threads=2)
    )
    plan = provision.plan(profile, facts(), store, "pi")
    assert plan.choice.kind == "tflite_runtime"
    assert plan.threads == 2


def test_a_runtime_that_does_not_import_gives_way_to_an_older_one(facts, store):
    found = facts()
    plan = provision.plan(LINUX, found, store, "pi")
    ready = ensure(Device(lambda _, count: count == 2), plan, found, store)
    assert (ready.choice.kind, ready.choice.version) == ("litert", "2.1.0")


def test_a_runtime_that_does_not_import_gives_way_to_another_kind(facts, store):
    found = facts()
    plan = provision.plan(LINUX, found, store, "pi")
    ready = ensure(Device(lambda runtime, _: runtime.kind == "tflite_runtime"), plan, found, store)
    assert ready.choice.version == "2.14.0"


def test_an_installed_runtime_that_fails_gives_way_to_wheels(facts, store):
    found = facts(pythons=(python(runtimes=BOTH),))
    plan = provision.plan(LINUX, found, store, "pi")
    ready = ensure(Device(lambda runtime, _: bool(runtime.paths)), plan, found, store)
    assert ready.choice.origin == "wheels"


def test_a_runtime_that_failed_is_not_tried_again_on_that_kind_of_machine(facts, store):
    found = facts()
    plan = provision.plan(LINUX, found, store, "pi")
    ensure(Device(lambda _, count: count == 2), plan, found, store)
    assert provision.plan(LINUX, found, store, "pi").choice.version == "2.1.0"
    other = facts(cpu="Cortex-A76")
    assert provision.plan(LINUX, other, store, "pi5").choice.version == OWN


def test_when_nothing_runs_all_that_was_tried_is_told(facts, store):
    found = facts()
    plan = provision.plan(LINUX, found, store, "pi")
    with pytest.raises(PreflightError) as caught:
        ensure(Device(lambda *_: False), plan, found, store)
    for words in (OWN, "2.1.0", "tflite-runtime 2.14.0", "GLIBC_2.99 not found"):
        assert words in caught.value.message


def test_armv7_takes_numpy_from_the_distribution(facts, store):
    found = facts(architecture="armv7l", pythons=(python(runtimes={"numpy": "1.24.2"}),))
    plan = provision.plan(LINUX, found, store, "pi")
    assert (plan.choice.kind, plan.choice.package.with_numpy) == ("tflite_runtime", False)


@pytest.mark.parametrize("runtimes", [{}, {"numpy": "2.1.0"}])
def test_armv7_without_a_fitting_numpy_says_what_to_type(facts, store, runtimes):
    found = facts(architecture="armv7l", pythons=(python(runtimes=runtimes),))
    with pytest.raises(PreflightError, match="armv7l") as caught:
        provision.plan(LINUX, found, store, "pi")
    if not runtimes:
        assert "sudo apt install python3-numpy" in caught.value.hint


def test_android_says_what_to_install(facts, store):
    profile = Profile(
        description="x",
        system=System(kind="android", glibc_min=None),
        runtime=RuntimeChoice(kinds=("tflite_runtime",)),
    )
    found = facts(libc="bionic", libc_version="34", pythons=(python(12),))
    with pytest.raises(PreflightError, match="tflite-runtime") as caught:
        provision.plan(profile, found, store, "phone")
    assert "pkg install python-numpy python-tflite-runtime" in caught.value.hint


def test_a_runtime_that_is_installed_but_broken_is_named(facts, store):
    broken = python(13, problems={"litert": "Traceback\nImportError: libfoo.so.1"})
    found = facts(architecture="riscv64", pythons=(broken,))
    with pytest.raises(PreflightError, match=r"litert there does not import: ImportError: libfoo"):
        provision.plan(LINUX, found, store, "pi")


def test_a_python_that_was_named_is_the_only_one(facts, store):
    found = facts(pythons=(python(11), python(9, path="/opt/py/bin/python3.9")))
    for name in ("/opt/py/bin/python3.9", "python3.9"):
        plan = provision.plan(LINUX, found, store, "pi", python=name)
        assert plan.python.path == "/opt/py/bin/python3.9"
    with pytest.raises(PreflightError, match=r"no usable Python /nowhere/python") as caught:
        provision.plan(LINUX, found, store, "pi", python="/nowhere/python")
    assert "/usr/bin/python3" in caught.value.hint


def test_a_python_that_is_too_old_or_another_kind_is_passed_over(facts, store):
    found = facts(
        pythons=(
            python(7),
            python(11, path="/usr/bin/pypy3", implementation="PyPy"),
            python(10, path="/usr/bin/python3.10"),
        )
    )
    assert provision.plan(LINUX, found, store, "pi").python.path == "/usr/bin/python3.10"


def test_a_disk_without_room_is_told_before_anything_is_sent(facts, store):
    found = facts(disk_free_mib=3.0)
    plan = provision.plan(LINUX, found, store, "pi")
    device = Device(lambda *_: True)
    with pytest.raises(SpaceError, match="3 MiB free"):
        ensure(device, plan, found, store)
    assert device.put_paths == []


def test_threads_of_a_changed_plan_reach_the_runtime(facts, store):
    found = facts()
    plan = dataclasses.replace(provision.plan(LINUX, found, store, "pi"), threads=3)
    assert ensure(Device(lambda *_: True), plan, found, store).runtime.threads == 3


def test_a_profile_of_another_machine_changes_nothing_in_the_choice(facts, store):
    profile = Profile(description="x", machine=Machine(architectures=("aarch64",)))
    assert provision.plan(profile, facts(), store, "pi").choice.kind == "litert"


def test_the_format_decides_the_runtime(facts, store):
    assert provision.plan(LINUX, facts(), store, "pi").choice.kind == "litert"
    plan = provision.plan(LINUX, facts(), store, "pi", format_="onnx")
    assert (plan.choice.kind, plan.choice.version) == ("onnxruntime", OWN_ONNX)
    assert provision.plan(ONNX, facts(), store, "pi").choice.kind == "onnxruntime"
    assert provision.plan(ONNX, facts(), store, "pi", format_="tflite").choice.kind == "litert"


def test_an_installed_runtime_of_the_other_format_is_no_choice(facts, store):
    found = facts(pythons=(python(runtimes={**BOTH, "onnxruntime": "1.20.0"}),))
    plan = provision.plan(ONNX, found, store, "pi")
    assert (plan.choice.origin, plan.choice.kind) == ("installed", "onnxruntime")
    plan = provision.plan(LINUX, found, store, "pi")
    assert (plan.choice.origin, plan.choice.kind) == ("installed", "litert")
    old = facts(pythons=(python(runtimes={"numpy": "1.24", "onnxruntime": "1.14.0"}),))
    assert provision.plan(ONNX, old, store, "pi").choice.origin == "wheels"


def test_an_onnxruntime_that_does_not_import_gives_way_to_an_older_one(facts, store):
    found = facts()
    plan = provision.plan(ONNX, found, store, "pi")
    ready = ensure(Device(lambda _, count: count == 2), plan, found, store, ONNX)
    assert (ready.choice.kind, ready.choice.version) == ("onnxruntime", "1.19.2")


def test_what_the_profile_says_of_onnx_runtime_reaches_the_device(facts, store):
    found = facts()
    plan = provision.plan(GPU, found, store, "jetson")
    ready = ensure(Device(lambda *_: True), plan, found, store, GPU)
    assert ready.runtime == wire.Runtime(
        kind="onnxruntime",
        paths=ready.runtime.paths,
        threads=1,
        providers=("TensorRT", "CUDA", "CPU"),
        arena=False,
        graph_optimization="extended",
    )
    plan = provision.plan(GPU, found, store, "jetson", format_="tflite")
    assert ensure(Device(lambda *_: True), plan, found, store, GPU).runtime.providers == ()


def test_the_build_with_the_gpu_is_preferred_where_a_gpu_is_asked_for(facts, store):
    plain = python(12, path="/usr/bin/python3.12", runtimes={"numpy": "2", "onnxruntime": "1.31"})
    gpu = python(
        10,
        path="/usr/bin/python3.10",
        runtimes={"numpy": "1.26", "onnxruntime": "1.23.0"},
        packages={"onnxruntime": "onnxruntime-gpu"},
    )
    found = facts(pythons=(plain, gpu))
    plan = provision.plan(GPU, found, store, "jetson")
    assert plan.python.path == gpu.path
    assert str(plan.choice) == "onnxruntime-gpu 1.23.0, installed there"
    assert provision.plan(ONNX, found, store, "jetson").python.path == plain.path


def test_a_profile_without_a_runtime_for_the_format_says_what_to_write(facts, store):
    profile = Profile(description="x", runtime=RuntimeChoice(kinds=("litert",)))
    with pytest.raises(PreflightError, match=r"names no runtime that runs a \.onnx") as caught:
        provision.plan(profile, facts(), store, "pi", format_="onnx")
    assert '"onnxruntime"' in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "said", "mend"),
    [
        ({"architecture": "armv7l"}, "no onnxruntime for Python 3.11 on armv7l", "--format tflite"),
        (
            {"libc": "bionic", "libc_version": "34"},
            "no onnxruntime",
            "pkg install python-numpy python-onnxruntime",
        ),
        ({"pythons": (python(7), python(15))}, "no onnxruntime for Python 3.15", "3.8 to 3.13"),
    ],
)
def test_no_onnxruntime_to_be_had_says_what_to_do(facts, store, changes, said, mend):
    with pytest.raises(PreflightError) as caught:
        provision.plan(ONNX, facts(**changes), store, "pi")
    assert said in caught.value.message
    assert mend in caught.value.hint


def test_when_no_onnxruntime_runs_the_right_package_is_named(facts, store):
    found = facts()
    plan = provision.plan(ONNX, found, store, "pi")
    with pytest.raises(PreflightError) as caught:
        ensure(Device(lambda *_: False), plan, found, store, ONNX)
    assert caught.value.hint.endswith("pip install onnxruntime")


def test_a_system_library_that_is_missing_is_told_and_no_runtime_is_blamed(facts, store):
    class Bare(Device):
        def probe(self, runtime):  # noqa: ARG002 - a device says the same of all
            said = "libstdc++.so.6: cannot open shared object file: No such file or directory"
            return wire.Probed(ok=False, detail=f"numpy does not import: {said}")

    plan = provision.plan(LINUX, facts(), store, "pi")
    with pytest.raises(PreflightError, match=r"lacks libstdc\+\+\.so\.6") as caught:
        ensure(Bare(lambda *_: False), plan, facts(), store)
    assert caught.value.hint == "on the device: sudo apt install libstdc++6"
    assert provision.plan(LINUX, facts(), store, "pi").choice.version == OWN


@pytest.mark.parametrize("kind", ["hang", "memory", "killed"])
def test_a_device_that_is_too_busy_to_try_a_runtime_gets_no_other_version(facts, store, kind):
    class Slow(Device):
        def probe(self, runtime):
            self.probed.append(runtime)
            detail = "the model's process gave no sign of life for 120 s"
            return wire.Probed(ok=False, detail=detail, kind=kind)

    plan = provision.plan(LINUX, facts(), store, "pi")
    device = Slow(lambda *_: False)
    with pytest.raises(PreflightError, match="no sign of life for 120 s") as caught:
        ensure(device, plan, facts(), store)
    assert "edgeq doctor" in caught.value.hint
    assert (len(device.probed), len(device.put_paths)) == (1, 1)
    assert provision.plan(LINUX, facts(), store, "pi").choice.version == OWN
