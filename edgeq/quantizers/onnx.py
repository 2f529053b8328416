"""The pivot quantized for ONNX Runtime."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from edgeq import digest
from edgeq.core.model import Artifact, FloatModel
from edgeq.core.samples import Samples
from edgeq.formats import onnx
from edgeq.formats.onnx_links import Links, Node, links
from edgeq.ports import Recipe
from edgeq.quantizers.onnx_requantizer import CALIBRATED, Requantizer
from edgeq.quantizers.outcome import NO_CALIBRATION, tried

NAME = "model.onnx"
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_DEQUANTIZE = "DequantizeLinear"
_EDGES = frozenset({"QuantizeLinear", _DEQUANTIZE})


def make() -> "OnnxQuantizer":
    return OnnxQuantizer()


class OnnxQuantizer:
    def quantize(
        self, pivot: FloatModel, recipe: Recipe, calibration: Samples | None, folder: Path
    ) -> Artifact:
        """See ``ports.Quantizer``. int8 without calibration data becomes int8-dynamic."""
        used = recipe
        notes: list[str] = []
        if recipe.precision == "int8" and calibration is None:
            used = replace(
                recipe, precision="int8-dynamic", input_dtype="float32", output_dtype="float32"
            )
            notes.append(NO_CALIBRATION)
        made = Requantizer(pivot, calibration).quantize(used)
        path = folder / NAME
        path.write_bytes(made.content)
        tensors = tried(pivot, path, used.precision, runtime="ONNX Runtime")
        notes += [*made.notes, *_remarks(path, used.precision)]
        samples = calibration if used.precision in CALIBRATED else None
        return Artifact(
            path=path,
            sha256=digest.of_file(path),
            size_bytes=path.stat().st_size,
            format="onnx",
            precision=used.precision,
            requested=recipe.precision,
            inputs=tensors.inputs,
            outputs=tensors.outputs,
            calibration_sha256=samples.sha256 if samples else None,
            calibration_samples=samples.count if samples else 0,
            tools={name: version(name) for name in ("onnx", "onnxruntime")},
            warnings=tuple(notes),
        )


def float_ops(path: Path) -> tuple[str, ...]:
    """Kinds of ops of a QDQ model that compute in float32, sorted."""
    model = onnx.read(path)
    facts = links(model)
    nodes = (node for node in model.graph.node if node.op_type not in _EDGES)
    return tuple(sorted({node.op_type for node in nodes if _computes_in_float(node, facts)}))


def _computes_in_float(node: Node, facts: Links) -> bool:
    results = [name for name in node.output if name in facts.floats]
    dequantized = {name for name, maker in facts.makers.items() if maker.op_type == _DEQUANTIZE}
    takes_float = any(name in facts.floats - dequantized for name in node.input)
    takers = [taker for name in results for taker in facts.takers_of(name)]
    requantized = bool(takers) and all(taker.op_type == "QuantizeLinear" for taker in takers)
    # a product of whole numbers may answer in float32: the sums of 32 bits, scaled
    return bool(results) and (takes_float or not (requantized or node.op_type in _PRODUCTS))


def _remarks(path: Path, precision: str) -> list[str]:
    """What the user should know about the file."""
    if precision in CALIBRATED and (ops := float_ops(path)):
        return [f"not quantized, still computing in float32: {', '.join(ops)}"]
    return []
