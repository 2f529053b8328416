import ast
import io
import json
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import edgeq
from edgeq import wire
from edgeq.archive import agent_archive, agent_sources
from tests.fakes import agent as agents

SOURCES = Path(edgeq.__file__).parent


def test_the_archive_is_small_and_the_same_every_time():
    archive = agent_archive()
    assert len(archive) < 64 << 10
    assert agent_archive() == archive


def test_the_archive_holds_the_agent_and_the_wire_only():
    archive = zipfile.ZipFile(io.BytesIO(agent_archive()))
    assert archive.namelist() == ["__main__.py", "agent.z", "edgeq/__init__.py"]
    names = list(json.loads(zlib.decompress(archive.read("agent.z"))))
    assert names == sorted(names)
    assert "edgeq/agent/serve.py" in names
    others = {name for name in names if not name.startswith("edgeq/agent/")}
    assert others == {"edgeq/wire.py"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_archive_lacks_docstrings_and_comments_and_nothing_else():
    found = agent_sources()
    assert len(found) > 10
    for name, text in found.items():
        source, bare = (SOURCES.parent / name).read_bytes(), text.encode()
        assert statements(bare) == statements(source)
        assert len(bare) < len(source) or len(source) < 100


def statements(source):
    """Every statement with its line, but for docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree), [getattr(node, "lineno", 0) for node in ast.walk(tree)]


def test_the_archive_imports_nothing_of_the_host():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pkgutil, importlib, edgeq.agent\n"
        "for module in pkgutil.walk_packages(edgeq.agent.__path__, 'edgeq.agent.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('edgeq')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(SOURCES.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.split()
    assert "edgeq.agent.install" in names
    assert all(name in {"edgeq", "edgeq.wire"} or name.startswith("edgeq.agent") for name in names)


def test_meters_and_runtimes_are_found_by_their_files(archive, python):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pkgutil\n"
        "from edgeq.agent import meters, runtimes\n"
        "for package in (meters, runtimes):\n"
        "    print(*sorted(module.name for module in pkgutil.iter_modules(package.__path__)))\n"
        "print(runtimes.find('litert').__file__)"
    )
    command = [python, "-I", "-S", "-c", program, str(archive)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line, folder in zip(said, ("meters", "runtimes"), strict=False):
        files = (SOURCES / "agent" / folder).glob("[a-z]*.py")
        assert line.split() == sorted(file.stem for file in files)
    assert said[2] == f"{archive}/edgeq/agent/runtimes/litert.py"


def test_an_error_in_the_archive_shows_its_file_and_line(archive, python):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from edgeq.agent import cpufreq\n"
        "cpufreq.numbers(None)"
    )
    done = subprocess.run(
        [python, "-I", "-S", "-c", program, str(archive)],
        capture_output=True,
        text=True,
        check=False,
    )
    source = (SOURCES / "agent/cpufreq.py").read_text().splitlines()
    line = next(n for n, text in enumerate(source, 1) if 'text.strip().split(",")' in text)
    assert f'{archive}/edgeq/agent/cpufreq.py", line {line}, in numbers' in done.stderr


def test_every_python_serves_with_the_standard_library_alone(archive, root, python):
    contents = {"model.tflite": b"weights", "manifest.json": b"{}"}
    agent = agents.start(archive, root, python, "-S", "-I")
    try:
        assert agent.receive().python.startswith("3.")
        assert agent.put("scratch/x", bytes(3 << 20)) == wire.Done()
        assert agent.get("scratch/x") == bytes(3 << 20)
        assert agent.ask(wire.Lock("me")) == wire.Done()
        assert agent.deploy("net", "v1", contents).current == "v1"
        assert agent.deploy("net", "v2", {**contents, "manifest.json": b"{2}"}).previous == "v1"
        assert agent.ask(wire.Rollback("net")).current == "v1"
        assert agent.ask(wire.Discard("net", "v1", "")).current == "v2"
        probed = agent.ask(wire.Probe(wire.Runtime("nonsense")))
        assert "no runtime 'nonsense'" in probed.detail
        assert agent.end() == 0
    finally:
        agent.kill()


def test_an_agent_in_its_place_keeps_what_it_compiled(archive, root, python, tmp_path):
    place = root / "agents" / "0123.pyz"
    place.parent.mkdir(parents=True)
    place.write_bytes(archive.read_bytes())
    for _ in range(3):
        agent = agents.start(place, root, python)
        try:
            assert agent.receive().python.startswith("3.")
            assert agent.end() == 0
        finally:
            agent.kill()
        kept = list((root / "pycache").rglob("0123.pyz/edgeq/agent/serve*.pyc"))
        assert len(kept) == 1
        whole = kept[0].read_bytes()
        assert len(whole) > 300  # it was made anew
        kept[0].write_bytes(whole[:300])  # a power cut
    assert not list(tmp_path.rglob("__pycache__"))


def test_every_python_measures_with_a_runtime_that_is_no_runtime(archive, root, python, tmp_path):
    """The sensors' side and the child's start, as far as they go without numpy."""
    model = tmp_path / "model.tflite"
    model.write_bytes(b"")
    agent = agents.start(archive, root, python)
    try:
        agent.receive()
        answer = agent.ask(wire.Measure(str(model), "", wire.Runtime("tflite_runtime")))
        assert answer.kind == "runtime"
    finally:
        agent.kill()
