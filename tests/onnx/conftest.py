from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeq import digest, steps
from edgeq.core import noise
from edgeq.core.model import FloatModel, Source
from edgeq.core.project import Input
from edgeq.core.samples import Samples
from edgeq.ports import LoadOptions, Recipe
from edgeq.quantizers import onnx as quantizer


@dataclass(frozen=True)
class Desk:
    """Loads and quantizes models in folders of its own."""

    folder: Path

    def load(self, data: bytes, name: str = "net.onnx", **options) -> FloatModel:
        path = self.folder / name
        path.write_bytes(data)
        return self.load_file(path, **options)

    def load_file(self, path: Path, **options) -> FloatModel:
        folder = self.folder / f"pivot-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        source = Source(
            path=path,
            name=path.stem,
            kind="onnx",
            sha256=digest.of_file(path),
            size_bytes=path.stat().st_size,
        )
        request = steps.LoadRequest(
            source=source,
            loader="onnx",
            folder=folder,
            options=LoadOptions(target="onnx", **options),
            settings=Input(),
            data=None,
            reader=None,
        )
        return steps.load(request, lambda *_: None)

    def quantize(self, pivot: FloatModel, samples: Samples | None = None, **recipe):
        folder = self.folder / f"artifact-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        recipe = Recipe(**{"precision": "int8", **recipe})
        return quantizer.make().quantize(pivot, recipe, samples, folder)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def samples_for(pivot: FloatModel, count: int = 32) -> Samples:
    return noise.random_samples(pivot.inputs, count)


def feeds(pivot: FloatModel, count: int, seed: int = 2) -> list[dict[str, np.ndarray]]:
    """Inputs that did not calibrate."""
    generator = np.random.default_rng(seed)
    return [
        {spec.name: generator.standard_normal(spec.shape, np.float32) for spec in pivot.inputs}
        for _ in range(count)
    ]
