import contextlib
import fcntl
import itertools
import json
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edgeq.cli.inspect_tables import shortened
from tests.fakes import tiny_model
from tests.inspection.test_layers import dense
from tests.inspection.test_onnx import convolutional, quantized, saved

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = 100


def written(tmp_path, content, name="m.tflite"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_the_json_has_its_schema_and_the_figures(edgeq, tmp_path):
    done = edgeq("inspect", written(tmp_path, tiny_model.int8_model()), "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, json.loads(edgeq("schema", "inspection").stdout))
    assert (found["parameters"], found["macs"]["total"]) == (15, 12)
    assert found["schema"] == "edgeq.inspection/1"


def test_a_bundle_is_looked_into(edgeq, tmp_path):
    plain = written(tmp_path, tiny_model.float_model())
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    made = edgeq(
        "convert", plain, "--device", "host", "--calibration", tmp_path / "data.npy",
        "--min-agreement", "0.1", "-o", tmp_path / "b.edgeq",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    done = edgeq("inspect", tmp_path / "b.edgeq", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["model"]["kind"], found["parameters"]) == ("bundle", 15)
    assert "FULLY_CONNECTED" in done.stdout


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    artifact = quantized(convolutional(), folder)
    inputs = np.random.default_rng(0).normal(size=(12, 4, 8, 8)).astype(np.float32)
    np.save(folder / "data.npy", inputs)
    return artifact, folder / "m.onnx", folder / "data.npy"


def test_the_layers_errors_come_worst_first(edgeq, compared):
    artifact, plain, data = compared
    done = edgeq("inspect", artifact, "--against", plain, "--data", data, "--json", "-")
    assert done.returncode == 0, done.stderr
    against = json.loads(done.stdout)["against"]
    figures = [layer["sqnr_db"] for layer in against["layers"]]
    assert against["samples"] == 12
    assert figures == sorted(figures)
    operators = {op["number"]: op["kind"] for op in json.loads(done.stdout)["operators"]}
    for layer in against["layers"]:
        assert operators[layer["number"]] == layer["operator"]


def in_terminal(columns, home, *words):
    """What the command prints in a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeq", *map(str, words)],
        stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, cwd=ROOT,
        env={**environment, "TERM": "dumb", "EDGEQ_HOME": str(home)},
    )  # fmt: skip
    os.close(slave)
    said = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(master, 65536):
            said += chunk
    os.close(master)
    assert process.wait() == 0
    return said.decode().replace("\r", "").splitlines()


def test_names_are_shortened_to_what_says_most():
    assert shortened("short", 10) == "short"
    assert shortened("model/relu;model/conv;model/bias", 20) == "model/relu…"
    assert shortened("a/very/long/path/of/one/layer", 12) == "…f/one/layer"


def test_a_damaged_file_is_one_sentence_and_exit_5(edgeq, tmp_path):
    for name, content in (("m.tflite", b"x" * 100), ("m.onnx", b"\xff" * 100)):
        done = edgeq("inspect", written(tmp_path, content, name))
        assert done.returncode == 5
        first, *rest = done.stderr.splitlines()[-2:]
        assert first.startswith("edgeq: ")
        assert "is damaged" in first
        assert all(line.startswith("  try: ") for line in rest)


def test_data_without_a_float_model_is_a_usage_error(edgeq, tmp_path):
    done = edgeq("inspect", written(tmp_path, tiny_model.int8_model()), "--data", tmp_path)
    assert done.returncode == 2
    assert "--data goes with --against" in done.stderr


def test_a_comparison_without_data_says_what_to_add(edgeq, tmp_path):
    path = written(tmp_path, tiny_model.int8_model())
    plain = written(tmp_path, tiny_model.float_model(), "float.tflite")
    done = edgeq("inspect", path, "--against", plain)
    assert done.returncode == 2
    assert "--data PATH" in done.stderr


def test_a_float_model_of_other_inputs_is_refused(edgeq, tmp_path):
    path = written(tmp_path, tiny_model.int8_model())
    plain = written(tmp_path, tiny_model.wide_model(8), "float.tflite")
    np.save(tmp_path / "data.npy", np.zeros((40, 8), np.float32) + np.eye(8, dtype=np.float32)[0])
    done = edgeq("inspect", path, "--against", plain, "--data", tmp_path / "data.npy")
    assert done.returncode == 5
    assert "takes inputs of 1x8, the model inspected 1x4" in done.stderr


def long_named():
    made = convolutional()
    for node in made.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name not in ("x", "y") and not name.startswith(("w", "b")):
                    names[place] = f"functional/model/some_long_block_name/{name};{name * 30}"
    return made


def test_tables_fit_the_terminal(tmp_path):
    path = saved(long_named(), tmp_path)
    for columns in (80, 120):
        lines = in_terminal(
            columns, tmp_path, "inspect", path, "--device", "host", "--format", "onnx"
        )
        assert any("Conv" in line for line in lines)
        assert max(len(line) for line in lines) <= columns


def test_tables_fit_the_columns_that_the_environment_names(edgeq, tmp_path):
    path = saved(long_named(), tmp_path)
    lines = edgeq("inspect", path, columns=80).stdout.splitlines()
    assert any("Conv" in line for line in lines)
    assert max(len(line) for line in lines) <= 80
    wide = edgeq("inspect", path, columns=200).stdout.splitlines()
    assert max(len(line) for line in wide) > 80


def test_a_command_to_try_names_the_whole_tensor_on_one_line(edgeq, tmp_path):
    name = f"functional/model/a_long_block/conv;{'joined/' * 20}it's"
    inputs = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    inputs[7, 3] = 60
    np.save(tmp_path / "data.npy", inputs)
    plain, artifact = (
        dense(tmp_path, np.eye(16), f"{kind}.onnx", scale, output=name)
        for kind, scale in (("plain", None), ("artifact", 0.5))
    )
    done = edgeq(
        "inspect", artifact, "--against", plain, "--data", tmp_path / "data.npy", columns=80
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    tries = [line.split("try: ")[1] for line in lines if "try: " in line]
    assert ["--precision", "mixed", "--keep-float", name] in [shlex.split(one) for one in tries]
    assert all(", or " not in one for one in tries)
    places = [i for i, line in enumerate(lines) if "try: " in line]
    assert all(second - first > 1 for first, second in itertools.pairwise(places))


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_mutated_files_work_or_give_one_sentence(tmp_path, kind):
    if kind == "tflite":
        source = written(tmp_path, tiny_model.int8_model())
    else:
        source = quantized(convolutional(), tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.inspection.mutants", str(source), str(MUTANTS)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert len(found) == MUTANTS
    assert {one.split(":")[0] for one in found} <= {"ok", "error"}
    assert all("\n" not in one for one in found)
    assert len([one for one in found if one != "ok"]) > MUTANTS // 10
