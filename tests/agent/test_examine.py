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
from edgeq.core.machine import Facts

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
