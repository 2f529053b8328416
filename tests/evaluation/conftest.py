"""Small real models, data for them, and a home whose cache all tests share."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from edgeq.places import Places
from tests.fakes import tiny_model, tiny_onnx

SIDE = 16
COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))


@dataclass(frozen=True)
class User:
    home: Path

    def run(self, *words: object, **more: str) -> "subprocess.CompletedProcess[str]":
        kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGEQ_")}
        path = os.pathsep.join([str(Path(__file__).parents[2]), more.pop("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env={
                **kept,
                "HOME": str(self.home),
                "EDGEQ_HOME": str(self.home / "edgeq"),
                "PYTHONPATH": path.rstrip(os.pathsep),
                **more,
            },
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=240,
            stdin=subprocess.DEVNULL,
            check=False,
        )


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation-home")


@pytest.fixture(scope="session")
def user(home):
    return User(home)


@pytest.fixture(scope="session")
def places(home):
    root = home / "edgeq"
    return Places(
        config=root / "config", data=root / "data", cache=root / "cache", log=root / "log"
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """``float`` and ``int8`` in both formats, ``pictures`` and what stands for its artifact."""
    folder = tmp_path_factory.mktemp("models")
    for suffix, maker in (("tflite", tiny_model), ("onnx", tiny_onnx)):
        (folder / f"float.{suffix}").write_bytes(maker.float_model())
        (folder / f"int8.{suffix}").write_bytes(maker.int8_model())
        (folder / f"two.{suffix}").write_bytes(maker.two_in_two_out_model())
    (folder / "pictures.onnx").write_bytes(picture_model(fragile=0.0))
    (folder / "fragile.onnx").write_bytes(picture_model(fragile=0.4))
    return folder


def picture_model(fragile: float) -> bytes:
    """Scores are the means of the channels; ``fragile`` adds what only rough pictures have.

    That is the mean distance of neighbouring pixels, which is 0 on pictures of one color.
    """
    edge = np.zeros((1, 3, 1, 2), np.float32)
    edge[0, :, 0, 0], edge[0, :, 0, 1] = 1, -1
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Conv", ["image", "edge"], ["edges"]),
        helper.make_node("Abs", ["edges"], ["distances"]),
        helper.make_node("GlobalAveragePool", ["distances"], ["rough"]),
        helper.make_node("Flatten", ["rough"], ["roughness"]),
        helper.make_node("MatMul", ["roughness", "share"], ["extra"]),
        helper.make_node("Add", ["flat", "extra"], ["scores"]),
    ]
    share = np.array([[100 * fragile, 0, 0]], np.float32)
    return tiny_onnx.model(
        nodes,
        inputs={"image": (1, 3, SIDE, SIDE)},
        outputs={"scores": (1, 3)},
        constants={"edge": edge, "share": share},
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Class folders of pictures of one color each; the color decides the class."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, color in zip(("0", "1", "2"), COLORS, strict=True):
        (folder / name).mkdir()
        for number in range(10):
            shade = tuple(part + number for part in color)
            Image.new("RGB", (SIDE, SIDE), shade).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def features():
    """Samples for the tiny models, and the class each is likely to get."""
    generator = np.random.default_rng(9)
    samples = generator.normal(0, 1.2, (300, 4)).astype(np.float32)
    scores = samples @ tiny_model.WEIGHTS.T + tiny_model.BIAS
    labels = (scores + generator.normal(0, 0.3, scores.shape)).argmax(axis=1)
    return samples, labels


@pytest.fixture(scope="session")
def labelled(tmp_path_factory, features):
    path = tmp_path_factory.mktemp("data") / "eval.npz"
    np.savez(path, features=features[0], labels=features[1])
    return path
