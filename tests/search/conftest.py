"""Real models of a few hundred bytes whose answers int8 keeps, or ruins, and their data."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import tiny_model

ROOT = Path(__file__).parents[2]
SAMPLES = 400
LIMIT_S = 280


@dataclass(frozen=True)
class Bench:
    """A user with a home, and a command line that is about one model."""

    home: Path

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env=self._environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def search(self, model: Path, *words: object) -> dict:
        """Convert with ``--precision auto``, which succeeds; the manifest."""
        done = self.run(*self.words(model), "--json", "-", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def words(self, model: Path) -> tuple[object, ...]:
        return (
            "convert", model, "--device", "host", "--precision", "auto",
            "--calibration", self.home / "calibration.npz", "-o", self.home / "out.tflite",
        )  # fmt: skip

    def break_off(self, when: Callable[[], object], *words: object) -> int:
        """Ctrl-C as soon as ``when()``; the exit code."""
        child = subprocess.Popen(
            # a child of a job in the background inherits an ignored SIGINT
            [sys.executable, "-c", _WITH_SIGINT, *map(str, words)],
            env=self._environment(),
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        while not when() and child.poll() is None:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        return child.wait(timeout=60)

    @property
    def cache(self) -> Path:
        return self.home / "edgeq" / "cache"

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGEQ_")}
        return {
            **kept,
            "HOME": str(self.home),
            "EDGEQ_HOME": str(self.home / "edgeq"),
            "PYTHONPATH": str(ROOT),
        }


_WITH_SIGINT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgeq.cli.app import main
main()
"""


@dataclass(frozen=True)
class Labelled:
    inputs: np.ndarray
    labels: np.ndarray

    def write(self, path: Path) -> Path:
        np.savez(path, features=self.inputs, labels=self.labels)
        return path


def answers(model: Path, inputs: np.ndarray) -> np.ndarray:
    """Outputs by LiteRT itself."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for sample in inputs:
        interpreter.set_tensor(source["index"], sample[None].astype(np.float32))
        interpreter.invoke()
        found.append(interpreter.get_tensor(target["index"])[0])
    return np.array(found)


def _data(scale: np.ndarray, count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(0, 1, (count, 4)) * scale).astype(np.float32)


@pytest.fixture(scope="session")
def searches(tmp_path_factory):
    return tmp_path_factory.mktemp("searches")


@pytest.fixture
def fresh(tmp_path):
    """A bench where nothing was ever searched."""
    home = tmp_path / "fresh"
    (home / "edgeq").mkdir(parents=True)
    return Bench(home)


@pytest.fixture
def bench(tmp_path, searches):
    """A bench that has the cache of all other tests."""
    home = tmp_path / "user"
    (home / "edgeq").mkdir(parents=True)
    (home / "edgeq" / "cache").symlink_to(searches)
    return Bench(home)


@pytest.fixture
def sound(bench):
    """A model that int8 hardly changes, its data, some of it labelled wrongly."""
    return write_sound(bench)


@pytest.fixture
def broken(bench):
    """The same, its inputs scaled so that one scale for all of them leaves most no steps."""
    return _write(bench, np.array([1, 1e-3, 1e-3, 1e-3], np.float32))


def write_sound(bench: Bench) -> tuple[Path, Labelled]:
    return _write(bench, np.ones(4, np.float32))


def _write(bench: Bench, scale: np.ndarray) -> tuple[Path, Labelled]:
    weights = tiny_model.WEIGHTS / scale
    model = bench.home / "tiny.tflite"
    model.write_bytes(tiny_model.float_model(weights))
    np.savez(bench.home / "calibration.npz", features=_data(scale, 64, 1))
    inputs = _data(scale, SAMPLES, 2)
    labels = answers(model, inputs).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 3
    return model, Labelled(inputs, labels)
