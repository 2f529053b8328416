"""The pivot quantized by ai-edge-quantizer: min/max calibration, weights per channel."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from edgeq import digest
from edgeq.core.model import Artifact, FloatModel
from edgeq.core.samples import Samples
from edgeq.formats import tflite, tflite_graph
from edgeq.ports import Recipe
from edgeq.quantizers.outcome import NO_CALIBRATION, tried
from edgeq.quantizers.tflite_recipes import CALIBRATED
from edgeq.quantizers.tflite_requantizer import Requantizer

NAME = "model.tflite"


def make() -> "TfliteQuantizer":
    return TfliteQuantizer()


class TfliteQuantizer:
    def quantize(
        self, pivot: FloatModel, recipe: Recipe, calibration: Samples | None, folder: Path
    ) -> Artifact:
        """See ``ports.Quantizer``. int8 without calibration data becomes int8-dynamic."""
        used = recipe
        notes: list[str] = []
        if recipe.precision == "int8" and calibration is None:
            used = replace(recipe, precision="int8-dynamic")
            notes.append(NO_CALIBRATION)
        precision = used.precision
        requantizer = Requantizer(pivot, calibration)
        path = folder / NAME
        path.write_bytes(requantizer.quantize(used))
        tensors = tried(pivot, path, precision, runtime="LiteRT")
        notes += [*requantizer.notes(used), *_remarks(path, precision)]
        samples = calibration if precision in CALIBRATED or used.correct_bias else None
        return Artifact(
            path=path,
            sha256=digest.of_file(path),
            size_bytes=path.stat().st_size,
            format="tflite",
            precision=precision,
            requested=recipe.precision,
            inputs=tensors.inputs,
            outputs=tensors.outputs,
            calibration_sha256=samples.sha256 if samples else None,
            calibration_samples=samples.count if samples else 0,
            tools={name: version(name) for name in ("ai-edge-quantizer", "ai-edge-litert")},
            warnings=tuple(notes),
        )


_INT4 = "int4 weights need LiteRT on the device: tflite-runtime refuses them"


def _remarks(path: Path, precision: str) -> list[str]:
    """What the user should know about the file."""
    notes = (
        [_INT4] if precision == "int4-weights" and tflite_graph.has_int4(path.read_bytes()) else []
    )
    match precision:
        case "int8" | "int16x8" if ops := tflite.float_ops(path):
            notes.append(f"not quantized, still computing in float32: {', '.join(ops)}")
        case "int8-dynamic" | "int4-weights" if ops := tflite.float_weight_ops(path):
            notes.append(f"not quantized, weights still float32: {', '.join(ops)}")
        case _:
            pass
    return notes
