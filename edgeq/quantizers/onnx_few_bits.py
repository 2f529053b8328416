"""Recipes whose weights alone are known beforehand: int8-dynamic and int4-weights."""

from edgeq.formats.onnx import Model
from edgeq.ports import Recipe
from edgeq.quantizers import onnx_products, onnx_weights


def weights(model: Model, recipe: Recipe, kept: frozenset[str]) -> tuple[Model, tuple[str, ...]]:
    """Without calibration: what can be is multiplied in few bits, else weights are only stored."""
    four = recipe.precision == "int4-weights"
    if recipe.weights == "octav":
        model = onnx_weights.clipped(model, 4 if four else 8)
    made = (
        onnx_products.four_bit_products(model, kept)
        if four
        else onnx_products.dynamic(model, kept, reduce_range=recipe.reduce_range)
    )
    unpacked = onnx_weights.stored(made, 4 if four else 8, kept)
    if not unpacked:
        return made, ()
    note = (
        f"{', '.join(unpacked)}: weights of {4 if four else 8} bits in the file, unpacked when it "
        "is loaded to compute in float32"
    )
    # measured: 5 to 13 times, on four networks
    slow = "; ONNX Runtime's dynamic int8 convolutions are several times slower than that"
    return made, (note + (slow if not four and "Conv" in unpacked else ""),)
