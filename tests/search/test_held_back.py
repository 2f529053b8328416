"""Real models: what is taken keeps the budget on samples that the search has not seen."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.search.conftest import answers

_SHARED = os.environ.get("EDGEQ_SHARED_DATA", "")
MAX_DROP = 0.01

pytestmark = [
    pytest.mark.skipif(not _SHARED, reason="EDGEQ_SHARED_DATA names no folder"),
    pytest.mark.timeout(1200),
]


def kws():
    data = Path(_SHARED, "data", "kws01")
    with np.load(data / "eval.npz") as arrays:
        return (
            Path(_SHARED, "models", "kws_saved_model"),
            data / "calibration.npz",
            arrays["features"].astype(np.float32),
            arrays["labels"],
        )


def cifar():
    from PIL import Image

    data = Path(_SHARED, "data", "cifar10")
    pictures, labels = [], []
    for label, folder in enumerate(sorted((data / "eval").iterdir())):
        for path in sorted(folder.iterdir()):
            pictures.append(np.asarray(Image.open(path).convert("RGB"), np.float32))
            labels.append(label)
    model = Path(_SHARED, "models", "resnet8_cifar10.h5")
    return model, data / "calibration", np.stack(pictures), np.array(labels)


@pytest.mark.parametrize("read", [kws, cifar])
def test_what_is_taken_keeps_the_budget_on_data_it_has_not_seen(bench, read):
    model, calibration, inputs, labels = read()
    pivot = bench.home / "pivot.tflite"
    done = bench.run(
        "convert", model, "--device", "host", "--precision", "float32",
        "--calibration", calibration, "-o", pivot,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = answers(pivot, inputs).argmax(axis=1) == labels
    for seed in (1, 2):
        order = np.random.default_rng(seed).permutation(len(labels))
        seen, held_back = np.split(order, [len(order) // 2])
        np.savez(bench.home / "seen.npz", features=inputs[seen], labels=labels[seen])
        out = bench.home / "out.tflite"
        done = bench.run(
            "convert", pivot, "--device", "host", "--precision", "auto", "-o", out,
            "--max-drop", MAX_DROP, "--calibration", calibration,
            "--evaluate", bench.home / "seen.npz",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = answers(out, inputs[held_back]).argmax(axis=1) == labels[held_back]
        drop = expected[held_back].mean() - found.mean()
        assert drop <= MAX_DROP, f"split {seed}: {drop:.4f}\n{done.stdout}"
