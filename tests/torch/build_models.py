"""Runs in the environment with PyTorch: ``python build_models.py FOLDER``.

Writes the models, and beside each NAME.npz with inputs and the outputs that PyTorch gives.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SAMPLES = 12


class Pictures(nn.Module):
    """Channels first, with what a small network for pictures has."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, groups=8)
        self.point = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, image):
        x = functional.relu(self.norm(self.first(image)))
        x = functional.relu6(self.depthwise(x))
        x = functional.max_pool2d(functional.hardswish(self.point(x)), 2)
        return torch.softmax(self.head(x.mean((2, 3))), 1)


class TwoByTwo(nn.Module):
    """Two inputs, one of whole numbers, and two outputs."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.left = nn.Linear(4, 6)
        self.right = nn.Linear(6, 3)

    def forward(self, numbers, words):
        x = torch.tanh(self.left(numbers)) + self.words(words).mean(1)
        return {"scores": self.right(x), "hidden": (x * 2.0,)}


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, words):
        x = self.words(words)
        if x.shape[1] > 3:  # control flow, which scripting keeps
            x = x * 0.5
        return self.head(x.mean(1))


class Features(nn.Module):
    """Gives a picture back, so that the order of its axes can be seen."""

    def __init__(self):
        super().__init__()
        self.only = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image):
        return torch.sigmoid(self.only(image))


def main(folder):
    torch.manual_seed(1)
    image = torch.randn(SAMPLES, 3, 16, 12)
    words = torch.randint(0, 20, (SAMPLES, 7))
    numbers = torch.randn(SAMPLES, 4)
    pictures = trained(Pictures())
    export(pictures, (image[:1],), folder / "pictures.pt2")
    batch = torch.export.Dim("batch")
    export(pictures, (image[:2],), folder / "open.pt2", dynamic_shapes=({0: batch},))
    export(pictures, (image[:4],), folder / "batch4.pt2")
    sides = {0: batch, 2: torch.export.Dim("h", min=8), 3: torch.export.Dim("w", min=8)}
    export(Features().eval(), (image[:2],), folder / "sides.pt2", dynamic_shapes=(sides,))
    torch.jit.save(torch.jit.trace(pictures, image[:1]), folder / "traced.pt")
    torch.jit.save(torch.jit.script(pictures), folder / "scripted.pt")
    keep(folder, ("pictures", "open", "traced", "scripted"), pictures, image=image)
    features = Features().eval()
    export(features, (image[:1],), folder / "features.pt2")
    keep(folder, ("features",), features, image=image)
    two = TwoByTwo().eval()
    export(two, (numbers[:1], words[:1]), folder / "two.pt2")
    keep(folder, ("two",), two, numbers=numbers, words=words)
    spoken = Words().eval()
    torch.jit.save(torch.jit.script(spoken), folder / "words.pt")
    keep(folder, ("words",), spoken, words=words)
    export(Pictures().eval().half(), (image[:1].half(),), folder / "half.pt2")
    torch.save(pictures, folder / "module.pt")
    torch.save(pictures.state_dict(), folder / "weights.pth")
    torch.save(pictures, folder / "old_module.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": pictures.state_dict(), "epoch": 3}, folder / "checkpoint.ckpt")


def trained(model):
    """With statistics that are not those of a fresh layer."""
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 16, 12) * 2 + 1)
    return model.eval()


def export(model, example, path, **more):
    torch.export.save(torch.export.export(model, example, **more), path)


def keep(folder, names, model, **inputs):
    """Inputs as float32, as data has them, and what PyTorch makes of each sample alone."""
    with torch.no_grad():
        answers = [
            torch.utils._pytree.tree_leaves(model(*(a[i : i + 1] for a in inputs.values())))
            for i in range(SAMPLES)
        ]
    outputs = {
        f"output_{k}": np.concatenate([answer[k].numpy() for answer in answers])
        for k in range(len(answers[0]))
    }
    arrays = {name: array.numpy().astype(np.float32) for name, array in inputs.items()}
    for name in names:
        np.savez(folder / f"{name}.data.npz", **arrays)
        np.savez(folder / f"{name}.answers.npz", **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
