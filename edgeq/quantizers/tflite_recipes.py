"""Recipes in the words of ai-edge-quantizer: a list of rules, of which the last that fits counts.

A rule's expression is searched in an op's scope: the names of its outputs, each ended by ``;``.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from edgeq.core.profile import Precision, TensorType
from edgeq.errors import ConfigError
from edgeq.formats import tflite_graph
from edgeq.ports import Recipe

CALIBRATED: frozenset[Precision] = frozenset({"int8", "int16x8", "mixed"})
"""Activations have fixed ranges, which come from data."""

Rules = list[dict[str, Any]]  # ai-edge-quantizer's own form, which is JSON
_ALL, _EVERY_SCOPE, _BOUNDARY_SCOPE = "*", ".*", "^"  # the same expression twice would overwrite
_NEAR = 3


def rules(recipe: Recipe, pivot: bytes) -> Rules:
    """The rules of any recipe but float32.

    Raises:
        ConfigError: ``keep_float`` names no tensor of the pivot, or nothing at all.
    """
    from ai_edge_quantizer import recipe as recipes
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    octav = recipe.weights == "octav"
    algorithm = AlgorithmName.OCTAV if octav else AlgorithmName.MIN_MAX_UNIFORM_QUANT
    match recipe.precision:
        case "int8":
            made = recipes.static_wi8_ai8(algorithm) + _boundaries(recipe)
        case "mixed":
            made = recipes.static_wi8_ai8(algorithm)
            made += _kept(recipe.keep_float, pivot) + _boundaries(recipe)
        case "int16x8":
            made = recipes.static_wi8_ai16(algorithm) + _float_boundaries()
        case "int8-dynamic":
            made = recipes.dynamic_wi8_afp32(algorithm)
        case "int4-weights":
            made = _int4(algorithm)
        case _:
            made = _half_precision()
    return list(made)


def _boundaries(recipe: Recipe) -> Rules:
    """The model's own inputs and outputs; left alone they are int8."""
    asked: tuple[tuple[str, TensorType], ...] = (
        ("INPUT", recipe.input_dtype),
        ("OUTPUT", recipe.output_dtype),
    )
    return [rule for operation, dtype in asked for rule in _boundary(operation, dtype)]


def _float_boundaries() -> Rules:
    return [*_boundary("INPUT", "float32"), *_boundary("OUTPUT", "float32")]


def _boundary(operation: str, dtype: TensorType) -> Iterator[dict[str, Any]]:
    from ai_edge_quantizer import recipe_manager

    if dtype == "float32":
        yield _no_quantize(_BOUNDARY_SCOPE, operation)
        return
    from ai_edge_quantizer import qtyping

    kinds = qtyping.TensorDataType
    manager = recipe_manager.RecipeManager()
    manager.add_quantization_config(
        regex=_BOUNDARY_SCOPE,
        operation_name=qtyping.TFLOperationName(operation),
        op_config=qtyping.OpQuantizationConfig(
            activation_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=8, symmetric=False, dtype=kinds.UINT if dtype == "uint8" else kinds.INT
            ),
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=8, symmetric=True),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        ),
    )
    yield from manager.get_quantization_recipe()


def _kept(names: tuple[str, ...], pivot: bytes) -> Rules:
    if not names:
        raise ConfigError(
            "mixed keeps named tensors in float32, and none is named",
            hint='name some in the profile: keep_float = ["…"]; edgeq inspect lists them',
        )
    scopes = tflite_graph.scopes(pivot)
    for name in names:
        if name not in scopes:
            near = difflib.get_close_matches(name, scopes, n=_NEAR, cutoff=0.3)
            raise ConfigError(
                f"keep_float names {name}, which is no tensor of the model",
                hint=f"near it: {', '.join(near)}" if near else "edgeq inspect lists them",
            )
    found = dict.fromkeys(scope for name in names for scope in scopes[name])
    return [_no_quantize(f"^{re.escape(scope)}$", _ALL) for scope in found]


def _no_quantize(scope: str, operation: str) -> dict[str, Any]:
    return {
        "regex": scope,
        "operation": operation,
        "algorithm_key": "no_quantize",
        "op_config": {},
    }


def _int4(algorithm: Any) -> Rules:  # noqa: ANN401  an enum of ai-edge-quantizer
    """int4 where there is a kernel for it, int8 for other weights."""
    from ai_edge_quantizer import recipe as recipes

    four = recipes.dynamic_wi4_afp32(algorithm)
    return [
        *recipes.dynamic_wi8_afp32(algorithm),
        *({**rule, "regex": f"(?:{_EVERY_SCOPE})"} for rule in four),
    ]


def _half_precision() -> Rules:
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.add_quantization_config(
        regex=_EVERY_SCOPE,
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key="float_casting",
    )
    made: Rules = manager.get_quantization_recipe()
    return made
