"""Data larger than the memory that its evaluation takes, and what is left when it is stopped."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.fakes import tiny_onnx

ROWS, WIDTH = 1024, 65536
# VmHWM, as ru_maxrss starts with that of the process that forked: pytest's.
MEASURED = """
import pathlib, sys
from edgeq.cli import app
try:
    app.main()
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) >> 10, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of wide samples, and 256 MiB of them in a small file."""
    folder = tmp_path_factory.mktemp("large")
    weights = np.random.default_rng(0).normal(0, 0.01, (WIDTH, 3)).astype(np.float32)
    (folder / "wide.onnx").write_bytes(
        tiny_onnx.model(
            [helper.make_node("MatMul", ["x", "weights"], ["y"])],
            inputs={"x": (1, WIDTH)},
            outputs={"y": (1, 3)},
            constants={"weights": weights},
        )
    )
    row = np.random.default_rng(1).integers(0, 4, WIDTH).astype(np.float32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (ROWS, WIDTH)}
    with zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("features.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for number in range(ROWS):
                stream.write((row * (1 + number % 2)).tobytes())
        with file.open("labels.npy", "w") as stream:
            np.lib.format.write_array(stream, np.arange(ROWS) % 3)
    return folder


def started(folder, tmp_path, *words):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EDGEQ_")}
    root = str(Path(__file__).parents[2])
    more = {"HOME": str(tmp_path), "EDGEQ_HOME": str(tmp_path / "e"), "PYTHONPATH": root}
    (tmp_path / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, *words, "evaluate", "wide.onnx", "--data", "data.npz"],
        env={**environment, **more, "TMPDIR": str(tmp_path / "tmp")},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_evaluation_takes_less_memory_than_its_data(large, tmp_path):
    process = started(large, tmp_path, "-c", MEASURED)
    said, noise = process.communicate(timeout=280)
    assert process.returncode == 0, noise
    assert f"{ROWS:,} samples" in said
    peak_mib = int(noise.splitlines()[-1])
    assert peak_mib < ROWS * WIDTH * 4 >> 20


def test_ctrl_c_ends_it_and_leaves_nothing(large, tmp_path):
    process = started(large, tmp_path, "-m", "edgeq")
    while "evaluate" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert list((tmp_path / "tmp").iterdir()) == []
