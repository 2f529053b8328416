import ast
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.agent import examine
from edgeq.archive import examine_script
from edgeq.core.machine import Facts, PythonFacts

BOARDS = Path(__file__).parents[1] / "data" / "sysfs"


def run(python=sys.executable, **environment):
    done = subprocess.run(
        [python, "-I", "-"],
        input=examine_script().encode(),
        capture_output=True,
        env={"PATH": str(Path(python).parent), **environment},
        check=True,
    )
    word, _, facts = done.stdout.decode().strip().partition(" ")
    assert word == "EDGEQ-FACTS"
    return Facts.model_validate_json(facts)


def test_the_facts_are_what_the_host_understands(tmp_path):
    facts = run(HOME=str(tmp_path))
    assert facts.system == os.uname().sysname
    assert facts.architecture == os.uname().machine
    assert facts.root == str(tmp_path / ".edgeq")
    assert facts.home_writable
    assert facts.memory_mib > facts.memory_available_mib > 0
    assert facts.cores == len(os.sched_getaffinity(0))
    assert facts.libc in {"glibc", "musl", "bionic"}
    assert facts.wall_time_s > 1.7e9


def test_it_writes_nothing(tmp_path):
    run(HOME=str(tmp_path), ORT_DISABLE_TELEMETRY="0")
    assert list(tmp_path.iterdir()) == []


def test_this_python_is_found_with_its_runtimes_and_only_once(tmp_path):
    facts = run(HOME=str(tmp_path))
    own = [python for python in facts.pythons if python.path == sys.executable]
    assert len(own) == 1
    assert own[0].version == sys.version_info[:3]
    assert {"litert", "onnxruntime", "numpy", "psutil"} <= set(own[0].runtimes)
    assert own[0].packages["litert"] == "ai-edge-litert"
    assert own[0].packages["onnxruntime"] == "onnxruntime"


def test_every_python_examines(python, tmp_path):
    facts = run(python, HOME=str(tmp_path))
    assert facts.pythons


def test_it_reads_as_python_3_6():
    ast.parse(examine_script(), feature_version=(3, 6))
    ast.parse(examine.PROBE, feature_version=(3, 6))


def test_it_needs_no_other_file():
    tree = ast.parse(examine_script())
    names = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert names <= set(sys.stdlib_module_names)


def test_agents_and_whole_runtimes_are_listed(tmp_path):
    digest = "a" * 64
    for path in (f"agents/{digest}.pyz", "agents/x.pyz.part-1", "runtimes/a.zip"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    for folder in ("runtimes/abc", "runtimes/.unpack-1"):
        (tmp_path / folder).mkdir()
    facts = run(HOME="/nonexistent", EDGEQ_ROOT=str(tmp_path))
    assert (facts.agents, facts.runtimes) == ((digest,), ("abc",))


def fake_python(folder, name, body):
    """A program that passes for a Python with one more folder of modules."""
    modules = folder / f"{name}-modules"
    for module, text in body.items():
        path = modules / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    program = folder / name
    script = f'#!/bin/sh\nPYTHONPATH="{modules}" exec "{sys.executable}" -S "$@"\n'
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os; os.abort()", "importing it ends Python with signal 6"),
        ("raise ImportError('libc.so.6: version GLIBC_2.34 not found')", "GLIBC_2.34 not found"),
        ("import os; os._exit(3)", "importing it ends Python"),
        ("print('noise'); raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_runtime_that_does_not_import_is_a_problem_not_the_end(tmp_path, text, said):
    python = fake_python(
        tmp_path,
        "python3.9",
        {"numpy.py": text, "tflite_runtime/__init__.py": "", "tflite_runtime/interpreter.py": ""},
    )
    found = examine.ask_python(str(python))
    assert said in found["problems"]["numpy"]
    assert list(found["runtimes"]) == ["tflite_runtime"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_the_package_tells_whether_an_onnxruntime_is_for_a_gpu(tmp_path, monkeypatch, name, quick):
    monkeypatch.setattr(examine, "QUICK", quick)
    folder = f"{name.replace('-', '_')}-1.23.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.23.0\n"
    python = fake_python(
        tmp_path,
        "python3.10",
        {
            "onnxruntime/__init__.py": "__version__ = '1.23.0'",
            f"{folder}/METADATA": metadata,
        },
    )
    found = examine.ask_python(str(python))
    assert found["runtimes"] == {"onnxruntime": "1.23.0"}
    assert found["packages"] == {"onnxruntime": name}


def test_a_program_that_is_no_python_is_left_out(tmp_path):
    program = tmp_path / "python3"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    assert examine.ask_python(str(program)) is None


def test_the_python_that_examines_has_longer_on_a_busy_machine(monkeypatch):
    limits = {}

    def note(argv, timeout_s, environment):  # noqa: ARG001 - as ``run``
        limits[argv[0]] = timeout_s
        return ""

    monkeypatch.setattr(examine, "run", note)
    monkeypatch.setattr(examine, "QUICK", True)
    examine.ask_python(sys.executable)
    examine.ask_python("/usr/bin/python3.9")
    assert limits[sys.executable] > 2 * limits["/usr/bin/python3.9"]


def test_a_python_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(examine, "PROBE_TIMEOUT_S", 0.5)
    program = tmp_path / "python3"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    assert examine.ask_python(str(program)) is None


@pytest.mark.parametrize(
    ("machine", "bits", "expected"),
    [
        ("aarch64", 64, "aarch64"),
        ("aarch64", 32, "armv7l"),
        ("armv7l", 32, "armv7l"),
        ("x86_64", 32, "i686"),
        ("arm64", 64, "aarch64"),
    ],
)
def test_the_userland_says_the_architecture(machine, bits, expected):
    assert examine.architecture(machine, bits) == expected


@pytest.mark.parametrize(
    ("board", "sensors", "throttled"),
    [
        (
            "jetson-orin-nano",
            ["power: ina3221 VDD_IN, VDD_CPU_GPU_CV, VDD_SOC", "frequency: 2 cpufreq policies"],
            [],
        ),
        ("jetson-nano-jp4", ["power: ina3221 POM_5V_IN, POM_5V_GPU, POM_5V_CPU"], None),
        (
            "pi4-ina219",
            ["power: ina219", "temperature: cpu-thermal"],
            ["under-voltage", "throttled", "occurred:under-voltage", "occurred:throttled"],
        ),
        ("phone-charging", ["power: battery battery (Charging)"], None),
        ("x86-rapl", ["power: rapl package-0", "power: rapl psys"], []),
    ],
)
def test_the_sensors_of_a_board_are_named(monkeypatch, board, sensors, throttled):
    monkeypatch.setattr(examine, "ROOT", str(BOARDS / board))
    found = examine.sensors()
    assert [sensor for sensor in sensors if sensor not in found] == []
    assert examine.throttled() == throttled
    json.dumps(found)


def test_an_arm_part_gets_its_name(monkeypatch, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n"
    )
    monkeypatch.setattr(examine, "ROOT", str(tmp_path))
    assert examine.processor() == {"cpu": "Cortex-A76", "cpu_flags": ["fp", "asimd", "asimddp"]}


def board(tmp_path, monkeypatch, cpuinfo, speeds=()):
    """A machine with this /proc/cpuinfo, and the highest frequency of each core."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    for number, khz in enumerate(speeds):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{khz}\n")
    monkeypatch.setattr(examine, "ROOT", str(tmp_path))


def arm_core(number, implementer, part):
    return (
        f"processor\t: {number}\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU variant\t: 0x2\n"
        f"CPU part\t: {part}\nCPU revision\t: 0\n\n"
    )


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        ("0x41", "0xd03", "Cortex-A53"),
        ("0x41", "0xd04", "Cortex-A35"),
        ("0x41", "0xd05", "Cortex-A55"),
        ("0x41", "0xd07", "Cortex-A57"),
        ("0x41", "0xd08", "Cortex-A72"),
        ("0x41", "0xd09", "Cortex-A73"),
        ("0x41", "0xd0a", "Cortex-A75"),
        ("0x41", "0xd0d", "Cortex-A77"),
        ("0x41", "0xd0c", "Neoverse-N1"),
        ("0x41", "0xd41", "Cortex-A78"),
        ("0x41", "0xd42", "Cortex-A78AE"),
        ("0x41", "0xd44", "Cortex-X1"),
        ("0x41", "0xd46", "Cortex-A510"),
        ("0x41", "0xd47", "Cortex-A710"),
        ("0x41", "0xd48", "Cortex-X2"),
        ("0x41", "0xd4d", "Cortex-A715"),
        ("0x41", "0xd4e", "Cortex-X3"),
        ("0x41", "0xd4f", "Neoverse-V2"),
        ("0x41", "0xd80", "Cortex-A520"),
        ("0x41", "0xd81", "Cortex-A720"),
        ("0x41", "0xd82", "Cortex-X4"),
        ("0x4e", "0x003", "Denver 2"),
        ("0x4e", "0x004", "Carmel"),
        ("0x51", "0x804", "Kryo 4xx Gold"),
        ("0x51", "0x805", "Kryo 4xx Silver"),
        ("0x61", "0x023", "Firestorm"),
        ("0x48", "0xd40", "Cortex-A76"),
        ("0x41", "0xfff", "ARM core 0x41/0xfff"),
        ("0x99", "0xd08", "ARM core 0x99/0xd08"),
    ],
)
def test_cores_of_several_makers_have_names(tmp_path, monkeypatch, implementer, part, name):
    board(tmp_path, monkeypatch, arm_core(0, implementer, part))
    assert examine.processor()["cpu"] == name


def test_all_kinds_of_cores_are_listed_the_fastest_first(tmp_path, monkeypatch):
    cpuinfo = "".join(
        [arm_core(number, "0x41", "0xd05") for number in range(4)]
        + [arm_core(number, "0x41", "0xd0b") for number in (4, 5)]
        + [arm_core(number, "0x41", "0xd0b") for number in (6, 7)]
    )
    board(tmp_path, monkeypatch, cpuinfo, [1800000] * 4 + [2256000] * 2 + [2352000] * 2)
    assert examine.processor()["cpu"] == "Cortex-A76 + Cortex-A55"
    assert examine.clusters() == [
        {"cpu": "Cortex-A76", "cores": 4, "max_mhz": 2352.0},
        {"cpu": "Cortex-A55", "cores": 4, "max_mhz": 1800.0},
    ]


def test_without_frequencies_the_later_cores_are_the_big_ones(tmp_path, monkeypatch):
    board(tmp_path, monkeypatch, arm_core(0, "0x41", "0xd03") + arm_core(1, "0x41", "0xd09"))
    assert examine.processor()["cpu"] == "Cortex-A73 + Cortex-A53"


def test_an_old_kernel_says_the_part_once_for_all_cores(tmp_path, monkeypatch):
    cpuinfo = (
        "Processor\t: ARMv7 Processor rev 4 (v7l)\nprocessor\t: 0\nBogoMIPS\t: 38.40\n\n"
        "processor\t: 1\nBogoMIPS\t: 38.40\n\nFeatures\t: half thumb neon\n"
        "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU part\t: 0xd03\n\n"
        "Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 3 Model B Plus Rev 1.3\n"
    )
    board(tmp_path, monkeypatch, cpuinfo)
    assert examine.clusters() == [{"cpu": "Cortex-A53", "cores": 2, "max_mhz": None}]
    assert examine.processor()["cpu_flags"] == ["half", "thumb", "neon"]
    assert examine.model() == "Raspberry Pi 3 Model B Plus Rev 1.3"


@pytest.mark.parametrize(
    ("cpuinfo", "name", "flags"),
    [
        (
            "processor\t: 0\nmodel name\t: Intel(R) N100\nflags\t\t: avx2\n",
            "Intel(R) N100",
            ["avx2"],
        ),
        (
            "processor\t: 0\nhart\t: 2\nisa\t: rv64imafdc\nuarch\t: sifive,u74-mc\n",
            "sifive,u74-mc",
            ["rv64imafdc"],
        ),
        ("", None, []),
    ],
)
def test_other_processors_say_their_name_themselves(tmp_path, monkeypatch, cpuinfo, name, flags):
    board(tmp_path, monkeypatch, cpuinfo)
    assert examine.processor() == {"cpu": name, "cpu_flags": flags}
    assert examine.clusters() == []


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"Raspberry Pi 4 Model B Rev 1.4\0", "Raspberry Pi 4 Model B Rev 1.4"),
        (b"  NVIDIA Jetson\tNano  \n", "NVIDIA Jetson Nano"),
        (b"To be filled by O.E.M.\n", None),
    ],
)
def test_a_model_is_one_line_of_text(tmp_path, monkeypatch, raw, name):
    board(tmp_path, monkeypatch, "")
    (tmp_path / "proc/device-tree").mkdir()
    (tmp_path / "proc/device-tree/model").write_bytes(raw)
    assert examine.model() == name


def fake_vcgencmd(folder, monkeypatch, **answers):
    """A program on the PATH that answers a Raspberry Pi's firmware's questions."""
    cases = "".join(f"{word}) cat <<'END'\n{said}\nEND\n;;\n" for word, said in answers.items())
    program = folder / "vcgencmd"
    program.write_text(f"#!/bin/sh\ncase $1 in\n{cases}*) exit 1;; esac\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    examine.firmware.cache_clear()


@pytest.mark.parametrize(
    ("said", "flags"),
    [
        ("throttled=0x0", []),
        ("throttled=0x50005", [
            "under-voltage", "throttled", "occurred:under-voltage", "occurred:throttled",
        ]),
        ("throttled=0xE0008", [
            "soft temperature limit", "occurred:frequency capped", "occurred:throttled",
            "occurred:soft temperature limit",
        ]),
        ("0x20000", ["occurred:frequency capped"]),
        ("VCHI initialization failed", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_the_firmware_says_is_put_in_words(tmp_path, monkeypatch, said, flags):
    fake_vcgencmd(tmp_path, monkeypatch, get_throttled=said)
    assert examine.raspberry() == flags


def test_the_rails_of_a_pmic_are_counted_in_pairs(tmp_path, monkeypatch):
    said = (
        "   VDD_CORE_A current(7)=0.92871990A\n   3V3_SYS_A current(1)=0.05A\n"
        "   VDD_CORE_V volt(15)=0.72097620V\n   3V3_SYS_V volt(9)=3.31V\n"
        "      EXT5V_V volt(24)=5.13V\n"
    )
    fake_vcgencmd(tmp_path, monkeypatch, pmic_read_adc=said, get_throttled="throttled=0x0")
    assert examine.pmic() == ["power: pmic, 2 rails"]
    assert examine.sources()["power"][:1] == ["pmic"]
    assert "vcgencmd" in examine.sources()["throttling"]


def test_the_firmware_of_this_machine_is_not_asked_for_a_recorded_one(tmp_path, monkeypatch):
    fake_vcgencmd(tmp_path, monkeypatch, get_throttled="throttled=0x1")
    monkeypatch.setattr(examine, "ROOT", str(BOARDS / "jetson-nano-jp4"))
    assert examine.raspberry() is None


def test_counters_of_other_machines_are_told_apart_from_flags(monkeypatch):
    monkeypatch.setattr(examine, "ROOT", str(BOARDS / "x86-rapl"))
    assert examine.throttle_events() == ["occurred:core throttled 1 times"]
    assert examine.sources()["power"] == ["rapl"]


@pytest.mark.parametrize(("alarm", "flags"), [("1", ["occurred:under-voltage"]), ("0", [])])
def test_an_alarm_of_the_kernel_stands_in_for_the_firmware(tmp_path, monkeypatch, alarm, flags):
    chip = tmp_path / "sys/class/hwmon/hwmon3"
    chip.mkdir(parents=True)
    (chip / "name").write_text("rpi_volt\n")
    (chip / "in0_lcrit_alarm").write_text(alarm)
    monkeypatch.setattr(examine, "ROOT", str(tmp_path))
    assert examine.raspberry() == flags


def test_an_onnxruntime_says_its_providers(tmp_path):
    body = (
        "__version__ = '1.23.0'\n"
        "def get_available_providers():\n"
        "    return ['CUDAExecutionProvider', 'CPUExecutionProvider']\n"
    )
    python = fake_python(tmp_path, "python3.10", {"onnxruntime/__init__.py": body})
    found = examine.ask_python(str(python))
    assert found["providers"] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert found["runtimes"]["onnxruntime"] == "1.23.0"


def test_a_machine_too_slow_to_answer_still_has_the_python_that_examines_it(monkeypatch, tmp_path):
    monkeypatch.setattr(examine, "ask_python", lambda _path: None)
    found = examine.pythons(str(tmp_path))
    assert [(one["path"], tuple(one["version"])) for one in found] == [
        (sys.executable, sys.version_info[:3])
    ]
    PythonFacts.model_validate(found[0])
