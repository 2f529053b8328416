"""From facts to a profile: which board it is, what its processor can do, what a file says."""

import tomllib

import pytest

from edgeq import registry
from edgeq.core import detected, strict, toml_text
from edgeq.core.detected import Runs, Way
from edgeq.core.machine import Cluster, Facts, PythonFacts, Sources
from edgeq.core.profile import Profile


def facts(**changes):
    fields = {
        "system": "Linux",
        "architecture": "aarch64",
        "kernel": "6.1",
        "os": "Debian GNU/Linux 12 (bookworm)",
        "model": "Somebody's Board Rev 2",
        "cpu": "Cortex-A72",
        "cpu_flags": ("fp", "asimd"),
        "cores": 4,
        "memory_mib": 1848.0,
        "libc": "glibc",
        "libc_version": "2.36",
        "home": "/home/pi",
        "root": "/home/pi/.edgeq",
        "pythons": (PythonFacts(path="/usr/bin/python3", version=(3, 11, 2)),),
        "wall_time_s": 1.0,
    }
    return Facts(**{**fields, **changes})


GPU = PythonFacts(
    path="/usr/bin/python3",
    version=(3, 10, 12),
    runtimes={"onnxruntime": "1.23.0"},
    providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
)
EVERY = (
    Runs(kind="litert", format="tflite", version="2.3.0", newest=True),
    Runs(kind="tflite_runtime", format="tflite", version="2.14.0"),
    Runs(kind="onnxruntime", format="onnx", version="1.19.2"),
)


@pytest.mark.parametrize(
    ("model", "architecture", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "aarch64", "pi4"),
        ("Raspberry Pi 400 Rev 1.0", "aarch64", "pi4"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "armv7l", "pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi 500 Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "armv7l", "pi3"),
        ("Raspberry Pi 3 Model A Plus Rev 1.0", "aarch64", "pi3"),
        ("Raspberry Pi Compute Module 3 Plus Rev 1.0", "armv7l", "pi3"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "aarch64", "pi-zero2w"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "aarch64", "jetson-orin-nano"),
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "aarch64",
            "jetson-orin-nano",
        ),
        ("Jetson AGX Orin", "aarch64", "jetson-agx-orin"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "aarch64", "jetson-agx-orin"),
        ("NVIDIA Jetson Nano Developer Kit", "aarch64", "jetson-nano"),
        ("NVIDIA Jetson Nano 2GB Developer Kit", "aarch64", "jetson-nano"),
        ("Raspberry Pi 2 Model B Rev 1.1", "armv7l", None),
        ("Raspberry Pi Zero W Rev 1.1", "armv6l", None),
        ("Radxa ROCK 5B", "aarch64", None),
        ("Raspberry Pi 4 Model B Rev 1.4", "x86_64", None),
        (None, "aarch64", None),
    ],
)
def test_a_board_is_known_by_the_beginning_of_its_model(model, architecture, name):
    found = detected.match(facts(model=model, architecture=architecture), registry.profiles())
    assert (found.name if found else None) == name


def test_the_profile_for_the_gpu_is_one_where_an_onnxruntime_offers_it():
    orin = facts(model="NVIDIA Jetson Orin Nano Developer Kit", pythons=(GPU,), gpu=("/dev/x",))
    assert detected.match(orin, registry.profiles()).name == "jetson-orin-nano-gpu"
    without = orin.model_copy(update={"gpu": ()})
    assert detected.match(without, registry.profiles()).name == "jetson-orin-nano"


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("aarch64", "fp asimd crc32", "armv8-a"),
        ("aarch64", "fp asimd asimddp", "armv8.2-a+dotprod"),
        ("aarch64", "asimd asimddp i8mm bf16", "armv8.2-a+dotprod+i8mm"),
        ("armv7l", "half thumb neon vfpv4", "armv7-a+neon"),
        ("armv7l", "half thumb vfpv3d16", "armv7-a"),
        ("x86_64", "sse4_2 avx2 avx512f avx512_vnni", "x86-64+avx2+avx512f+vnni"),
        ("x86_64", "sse4_2 avx2 avx_vnni", "x86-64+avx2+vnni"),
        ("x86_64", "sse2", "x86-64"),
        ("aarch64", "", None),
    ],
)
def test_the_instruction_set_says_what_int8_gains_from(architecture, flags, expected):
    found = facts(architecture=architecture, cpu_flags=tuple(flags.split()))
    assert detected.instruction_set(found) == expected


def test_the_shipped_profiles_say_the_instruction_set_in_the_same_words():
    said = {one.profile.machine.instruction_set for one in registry.profiles().values()}
    assert said <= {None, "armv8-a", "armv8.2-a+dotprod"}


def test_a_machine_that_is_no_known_one_gets_a_profile_of_its_own():
    sources = Sources(power=("hwmon",), thermal=("thermal_zone",), throttling=("cooling_device",))
    found = detected.derive(facts(sources=sources), EVERY, Way(port=2222)).profile
    assert found.machine.models == ("Somebody's Board",)
    assert found.machine.cpu == "Cortex-A72"
    assert (found.machine.cores, found.machine.memory_min_mib) == (4, 1660)
    assert (found.system.python_min, found.system.glibc_min) == ("3.11", "2.36")
    assert found.runtime.kinds == ("litert", "tflite_runtime", "onnxruntime")
    assert (found.conversion.opset_max, found.conversion.ir_max) == (21, 10)
    assert (found.access.transport, found.access.port) == ("ssh", 2222)
    assert found.telemetry.power == ("hwmon",)
    assert found.budgets == Profile(description="x").budgets


def test_the_file_reads_back_as_the_profile_and_says_where_values_came_from():
    made = detected.derive(facts(), EVERY, Way())
    text = toml_text.write(made.values, made.notes, ["a board\nwith two lines"])
    assert strict.parse(Profile, text, origin="it") == made.profile
    assert text.startswith("# a board with two lines\n")
    assert "/proc/cpuinfo" in text
    assert "budgets" in tomllib.loads(text)


def test_what_a_board_calls_itself_cannot_break_the_file():
    odd = 'a "board"\\ \x7f \x1b[31m # [machine]\n[budgets]'
    made = detected.derive(facts(model=odd, cpu=odd), EVERY, Way())
    text = toml_text.write(made.values, made.notes, [odd])
    assert strict.parse(Profile, text, origin="it") == made.profile
    assert "\x1b" not in text
    assert made.profile.machine.models == (odd,)


def test_a_runtime_that_does_not_run_is_left_out():
    only = (
        Runs(kind="litert", format="tflite", how="there is none"),
        Runs(kind="tflite_runtime", format="tflite", how="there is none"),
        Runs(kind="onnxruntime", format="onnx", version="1.31.1", newest=True),
    )
    found = detected.derive(facts(), only, Way()).profile
    assert found.runtime.kinds == ("onnxruntime",)
    assert found.conversion.format == "onnx"
    assert found.conversion.opset_max is None


def test_what_could_not_be_found_out_is_not_taken_for_a_no():
    unsure = tuple(Runs(kind=one.kind, format=one.format, sure=False) for one in EVERY)
    found = detected.derive(facts(), unsure, Way())
    assert found.profile.runtime.kinds == ("litert", "tflite_runtime", "onnxruntime")
    assert "unknown" in found.notes["runtime.kinds"]


def test_where_nothing_runs_the_file_says_so():
    none = tuple(Runs(kind=one.kind, format=one.format, how="no wheel") for one in EVERY)
    found = detected.derive(facts(pythons=()), none, Way())
    assert found.notes["runtime.kinds"].startswith("none runs there yet")
    assert "install" in found.notes["system.python_min"]
    assert found.profile.system.python_min == "3.8"


def test_a_gpu_is_used_where_the_installed_onnxruntime_can():
    found = detected.derive(facts(pythons=(GPU,), gpu=("/dev/nvhost-gpu",)), EVERY, Way()).profile
    assert found.runtime.providers == ("TensorRT", "CUDA", "CPU")
    assert found.runtime.kinds == ("onnxruntime",)
    assert (found.conversion.format, found.conversion.activations) == ("onnx", "int8")


@pytest.mark.parametrize(
    ("libc", "version", "kind", "glibc_min"),
    [
        ("glibc", "2.36", "linux", "2.36"),
        ("glibc", "2.31-13+rpt2", "linux", "2.31"),
        ("musl", "1.2.3", "linux", None),
        ("bionic", "34", "android", None),
    ],
)
def test_the_c_library_decides_the_system(libc, version, kind, glibc_min):
    found = detected.derive(facts(libc=libc, libc_version=version), EVERY, Way()).profile
    assert (found.system.kind, found.system.glibc_min) == (kind, glibc_min)


def test_big_and_little_cores_are_both_told():
    mixed = facts(
        cpu="Cortex-A76 + Cortex-A55",
        cores=8,
        clusters=(
            Cluster(cpu="Cortex-A76", cores=4, max_mhz=2400.0),
            Cluster(cpu="Cortex-A55", cores=4, max_mhz=1800.0),
        ),
    )
    made = detected.derive(mixed, EVERY, Way())
    assert made.profile.machine.cores == 8
    assert "4 x Cortex-A76 at 2400 MHz + 4 x Cortex-A55 at 1800 MHz" in made.profile.description
    assert "big and little" in made.notes["runtime.threads"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.15.1", (19, 8)),
        ("1.17.0", (20, 9)),
        ("1.20.1", (21, 10)),
        ("1.23.2", (23, 11)),
        ("1.31.1", (23, 11)),
        ("1.9.0", (None, None)),
        ("unknown", (None, None)),
    ],
)
def test_the_onnx_limits_are_those_of_the_onnxruntime_that_runs_there(version, expected):
    runs = (Runs(kind="onnxruntime", format="onnx", version=version),)
    found = detected.derive(facts(), runs, Way()).profile.conversion
    assert (found.opset_max, found.ir_max) == expected


@pytest.mark.parametrize(
    ("model", "cpu", "name"),
    [
        ("Radxa ROCK 5B", "Cortex-A76", "radxa-rock-5b"),
        ("Hardkernel ODROID-C4 Rev 1.0", None, "hardkernel-odroid-c4"),
        (None, "Intel(R) N100", "intel-r-n100"),
        (None, None, "aarch64"),
        ("///", None, "machine"),
    ],
)
def test_a_profile_is_called_after_its_machine(model, cpu, name):
    assert detected.name_of(facts(model=model, cpu=cpu)) == name


@pytest.mark.parametrize(("transport", "name"), [("adb", "android"), ("ssh", "android-termux")])
def test_a_phone_is_the_android_that_is_reached_so(transport, name):
    phone = facts(model="Google Pixel 8", libc="bionic", libc_version="34")
    assert detected.match(phone, registry.profiles(), transport).name == name
