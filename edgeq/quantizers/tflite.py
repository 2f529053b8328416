"""The pivot quantized by ai-edge-quantizer: min/max calibration, weights per channel."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import digest
from edgeq.core.model import Artifact, FloatModel
from edgeq.core.samples import Samples
from edgeq.errors import DataError, GateError, ModelError
from edgeq.formats import Tensors, tflite
from edgeq.ports import Recipe

NAME = "model.tflite"
_SIGNATURE = "serving_default"
_THREADS = 2
_NEED_CALIBRATION = "int8"
_LOOP = "WHILE"
_GATES = frozenset({"LOGISTIC", "TANH"})  # what an LSTM's or GRU's cell is made of
# What ai-edge-quantizer raises for graphs beyond it; it has no error class of its own.
_ERRORS = (
    ValueError, RuntimeError, KeyError, IndexError, NotImplementedError, AttributeError, TypeError,
)  # fmt: skip


def make() -> "TfliteQuantizer":
    return TfliteQuantizer()


class TfliteQuantizer:
    def quantize(
        self, pivot: FloatModel, recipe: Recipe, calibration: Samples | None, folder: Path
    ) -> Artifact:
        """See ``ports.Quantizer``. int8 without calibration data becomes int8-dynamic."""
        precision = recipe.precision
        notes: list[str] = []
        if precision == _NEED_CALIBRATION and calibration is None:
            precision = "int8-dynamic"
            notes.append(NO_CALIBRATION)
        used = calibration if precision == _NEED_CALIBRATION else None
        path = folder / NAME
        path.write_bytes(_quantized(pivot, replace(recipe, precision=precision), used))
        tensors = _try(pivot, path, precision)
        notes += _left_in_float(path, precision)
        return Artifact(
            path=path,
            sha256=digest.of_file(path),
            size_bytes=path.stat().st_size,
            format="tflite",
            precision=precision,
            requested=recipe.precision,
            inputs=tensors.inputs,
            outputs=tensors.outputs,
            calibration_sha256=used.sha256 if used else None,
            calibration_samples=used.count if used else 0,
            tools={name: version(name) for name in ("ai-edge-quantizer", "ai-edge-litert")},
            warnings=tuple(notes),
        )


NO_CALIBRATION = (
    "no calibration data, so int8 became int8-dynamic: int8 weights, activations quantized at run "
    "time; give data with --calibration PATH or [calibration] in edgeq.toml"
)


def _quantized(pivot: FloatModel, recipe: Recipe, calibration: Samples | None) -> bytes:
    if recipe.precision == "float32":
        return pivot.path.read_bytes()
    from ai_edge_quantizer import quantizer

    try:
        with warnings.catch_warnings():
            # it says that preserving all tensors takes memory, which is what calibration is
            warnings.simplefilter("ignore", UserWarning)
            config = _config(recipe)
            ranges = _ranges(pivot, config, calibration) if calibration else None
            result = quantizer.Quantizer(str(pivot.path), config).quantize(
                ranges, enable_progress_report=False
            )
            return bytes(result.quantized_model)
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{pivot.source.path.name} is damaged: a name in it is no text",
            hint="was the download or the copy cut short?",
        ) from error
    except _ERRORS as error:
        if calibration:
            _refuse_rejected(pivot, calibration)
        raise ModelError(
            _why_not(pivot, recipe.precision, error), hint=_other_precisions(recipe.precision)
        ) from error


def _other_precisions(precision: str) -> str:
    others = [p for p in ("int8-dynamic", "fp16", "float32") if p != precision]
    return f"--precision {' or '.join(others)}"


def _why_not(pivot: FloatModel, precision: str, error: Exception) -> str:
    name = pivot.source.path.name
    ops = frozenset(tflite.op_names(pivot.path))
    # the calibrator cannot see inside a loop, nor all of one unrolled: "Tensor data is null"
    if _LOOP in ops or ("Tensor data is null" in str(error) and ops >= _GATES):
        return f"{name} cannot be quantized to {precision}: it has recurrent layers"
    reason = textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__
    return f"{name} cannot be quantized to {precision}: {reason}"


def _refuse_rejected(pivot: FloatModel, samples: Samples) -> None:
    """Whether it was a sample that stopped the calibration.

    Raises:
        DataError: the float model cannot run on one.
    """
    runner = tflite.Runner(pivot.path)
    for i in range(samples.count):
        try:
            runner.run(
                [
                    array[i : i + 1].astype(spec.dtype)
                    for array, spec in zip(samples.inputs, pivot.inputs, strict=True)
                ]
            )
        except ModelError as error:
            raise DataError(
                f"{pivot.source.path.name} rejects a sample of the calibration data: "
                f"{error.message}",
                hint="do its values mean what the model was trained on?",
            ) from error


def _config(recipe: Recipe) -> Any:  # noqa: ANN401  ai-edge-quantizer's recipes are JSON
    from ai_edge_quantizer import recipe as recipes

    match recipe.precision:
        case "int8":
            return recipes.static_wi8_ai8() + _float_boundaries(recipe)
        case "int8-dynamic":
            return recipes.dynamic_wi8_afp32()
        case _:
            return _half_precision()


def _float_boundaries(recipe: Recipe) -> list[dict[str, object]]:
    """Left alone, an int8 model's own inputs and outputs are int8."""
    asked = (("INPUT", recipe.input_dtype), ("OUTPUT", recipe.output_dtype))
    return [
        {"regex": ".*", "operation": name, "algorithm_key": "no_quantize", "op_config": {}}
        for name, dtype in asked
        if dtype == "float32"
    ]


def _half_precision() -> Any:  # noqa: ANN401  see _config
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.add_quantization_config(
        regex=".*",
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
    return manager.get_quantization_recipe()


def _ranges(pivot: FloatModel, config: Any, samples: Samples) -> Any:  # noqa: ANN401  see _config
    """The smallest and largest value of each tensor over all samples.

    Its default, a moving average, forgets extremes and costs 4 to 7 dB of SQNR.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(config)
    calibration = calibrator.Calibrator(
        str(pivot.path),
        num_threads=_THREADS,
        qsv_update_func=qsv_utils.min_max_update,
        mode=calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
    )
    feeds = [
        {
            spec.name: array[i : i + 1].astype(spec.dtype)
            for spec, array in zip(pivot.inputs, samples.inputs, strict=True)
        }
        for i in range(samples.count)
    ]
    calibration.calibrate({_signature(pivot): feeds}, manager)
    return calibration.get_model_qsvs()


def _signature(pivot: FloatModel) -> str:
    names = tflite.read_contents(pivot.path).signatures
    return names[0] if names else _SIGNATURE


def _try(pivot: FloatModel, path: Path, precision: str) -> Tensors:
    """Load and run it once: a runtime may refuse what the quantizer wrote.

    Raises:
        GateError: LiteRT refuses it.
        ModelError: its tensors are not the pivot's.
    """
    try:
        runner = tflite.Runner(path)
        tensors = runner.tensors
        runner.run([np.zeros(spec.shape, spec.dtype) for spec in tensors.inputs])
    except ModelError as error:
        reason = error.message.removeprefix(f"LiteRT cannot load {path.name}: ")
        raise GateError(
            f"{precision} of {pivot.source.path.name} cannot run in LiteRT: {reason}",
            hint=_other_precisions(precision),
        ) from error
    for before, after in (
        (pivot.inputs, tensors.inputs),
        (pivot.outputs, tensors.outputs),
    ):
        if [(s.name, s.shape) for s in before] != [(s.name, s.shape) for s in after]:
            raise ModelError(
                f"quantizing {pivot.source.path.name} changed its tensors: "
                f"{_listed(before)} became {_listed(after)}"
            )
    return tensors


def _listed(specs: Sequence[Any]) -> str:
    return ", ".join(f"{spec.name} {spec.shape}" for spec in specs)


def _left_in_float(path: Path, precision: str) -> list[str]:
    if precision == "int8" and (ops := tflite.float_ops(path)):
        return [f"not quantized, still computing in float32: {', '.join(ops)}"]
    if precision == "int8-dynamic" and (ops := tflite.float_weight_ops(path)):
        return [f"not quantized, weights still float32: {', '.join(ops)}"]
    return []
