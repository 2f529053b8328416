"""One float .tflite quantized by many recipes: calibrated once, then some 10 ms for each."""

import math
import tempfile
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeq import equalize
from edgeq.biases import tflite as biases
from edgeq.core.model import FloatModel
from edgeq.core.profile import Precision
from edgeq.core.ranges import RULES, Rule
from edgeq.core.samples import Samples, spread
from edgeq.errors import DataError, ModelError
from edgeq.formats import Array, tflite, tflite_graph
from edgeq.ports import Batch, Recipe
from edgeq.quantizers import tflite_ranges, tflite_recipes
from edgeq.quantizers.outcome import other_precisions
from edgeq.quantizers.tflite_ranges import Measured, Ranges

_PROBES = 4
_JUDGES = 48
"""Samples that a rule for ranges is judged by."""

_GAIN = 10 ** (-0.5 / 10)
"""A rule that cuts off is taken where it lowers the noise by 0.5 dB at least: on other samples than
those, a smaller gain may be none."""

_LOOP = "WHILE"
_GATES = frozenset({"LOGISTIC", "TANH"})  # what an LSTM's or GRU's cell is made of
# What ai-edge-quantizer raises for graphs beyond it; it has no error class of its own.
_ERRORS = (
    ValueError, RuntimeError, KeyError, IndexError, NotImplementedError, AttributeError, TypeError,
)  # fmt: skip


class Requantizer:
    """Quantizes one pivot; what recipes share is worked out once, when first needed.

    Args:
        pivot: A float .tflite.
        calibration: For recipes whose activations have fixed ranges; None: there are no data.
    """

    def __init__(self, pivot: FloatModel, calibration: Samples | None) -> None:
        self._plain = _Prepared(pivot, calibration)

    def quantize(self, recipe: Recipe) -> bytes:
        """The quantized file.

        Raises:
            ModelError: the model cannot be quantized so.
            DataError: the recipe needs calibration data, or the model rejects a sample of it.
            ConfigError: ``keep_float`` names no tensor of the model.
        """
        return self._prepared(recipe).quantize(recipe)

    def notes(self, recipe: Recipe) -> tuple[str, ...]:
        """What ``quantize`` could not do as the recipe asks: plain sentences, for the report."""
        notes = []
        if recipe.equalize and (reason := self._equalized[1].reason):
            notes.append(f"not equalized: {reason}")
        if recipe.correct_bias and self._plain.calibration is None:
            notes.append("no bias corrected: that needs calibration data")
        return tuple(notes)

    def op_tensors(self) -> tuple[str, ...]:
        """Names that ``keep_float`` takes, one an op, in execution order."""
        graph = tflite_graph.Graph(self._plain.content)
        return tuple(graph.tensors[op.outputs[0]].name for op in graph.ops if op.outputs)

    def _prepared(self, recipe: Recipe) -> "_Prepared":
        return self._equalized[0] if recipe.equalize else self._plain

    @cached_property
    def _equalized(self) -> tuple["_Prepared", equalize.Equalized]:
        pivot, calibration = self._plain.pivot, self._plain.calibration
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            out = Path(folder) / pivot.path.name
            batches = None if calibration is None else _batches(pivot, calibration, _PROBES)
            made = equalize.equalize(pivot.path, out, batches)
            return _Prepared(pivot, calibration, out.read_bytes()), made


class _Prepared:
    """A float model and its ranges.

    Args:
        pivot: What the user's words name.
        calibration: See ``Requantizer``.
        content: Of the same tensors; None: the pivot's own.
    """

    def __init__(
        self, pivot: FloatModel, calibration: Samples | None, content: bytes | None = None
    ) -> None:
        self.pivot = pivot
        self.calibration = calibration
        self.content = pivot.path.read_bytes() if content is None else content

    def quantize(self, recipe: Recipe) -> bytes:
        """See ``Requantizer.quantize``."""
        if recipe.precision == "float32":
            return self.content
        calibrated = recipe.precision in tflite_recipes.CALIBRATED
        try:
            rules = tflite_recipes.rules(recipe, self.content)
            ranges = self._ranges(recipe.precision) if calibrated else None
            made = _run(self.content, rules, ranges)
            if recipe.correct_bias and self.calibration is not None:
                corrected = biases.corrected(self.content, made, self._means)
                made = _run(corrected, rules, ranges)
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{self.pivot.source.path.name} is damaged: a name in it is no text",
                hint="was the download or the copy cut short?",
            ) from error
        except _ERRORS as error:
            if calibrated and self.calibration is not None:
                _refuse_rejected(self.pivot, self.calibration)
            raise ModelError(
                _why_not(self.pivot, recipe.precision, error),
                hint=other_precisions(recipe.precision),
            ) from error
        return made

    @cached_property
    def _means(self) -> biases.Means:
        if self.calibration is None:
            return {}
        return biases.measure(self.content, _batches(self.pivot, self.calibration))

    def _ranges(self, precision: Precision) -> Ranges:
        """16 bits have steps enough for the rarest values."""
        rule = "minmax" if precision == "int16x8" else self._rule
        return tflite_ranges.by_rule(self._measured, rule)

    @cached_property
    def _measured(self) -> Mapping[str, Measured]:
        if self.calibration is None:
            raise DataError(
                "fixed ranges of activations need calibration data, and there is none",
                hint="give some with --calibration PATH or [calibration] in edgeq.toml",
            )
        return tflite_ranges.measure(self.content, _batches(self.pivot, self.calibration))

    @cached_property
    def _rule(self) -> Rule:
        """The rule that gives plain int8 the least noise on some calibration samples."""
        measured = self._measured
        judges = _batches(self.pivot, self.calibration, _JUDGES) if self.calibration else []
        expected = tflite_ranges.answers(self.content, judges)
        plain = tflite_recipes.rules(Recipe(precision="int8"), self.content)

        def noise(rule: Rule) -> float:
            made = _run(self.content, plain, tflite_ranges.by_rule(measured, rule))
            try:
                return _noise(expected, tflite_ranges.answers(made, judges))
            except (ValueError, RuntimeError):  # LiteRT refuses it: whoever asked will see why
                return math.inf

        noises = {rule: noise(rule) for rule in RULES}
        best = min(RULES, key=lambda rule: noises[rule])
        return best if noises[best] < _GAIN * noises["minmax"] else "minmax"


def _noise(expected: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    """The share of noise in the worst output."""
    shares = [0.0]
    for outputs in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        want, got = (np.asarray(one, np.float64) for one in outputs)
        signal = float((want**2).sum())
        shares += [float(((want - got) ** 2).sum()) / signal] if signal else []
    return max(shares)


def _batches(pivot: FloatModel, samples: Samples, limit: int | None = None) -> list[Batch]:
    """Each sample, or some spread evenly, as a batch of one in the inputs' own types."""
    return [
        tuple(
            array[i : i + 1].astype(spec.dtype, copy=False)
            for array, spec in zip(samples.inputs, pivot.inputs, strict=True)
        )
        for i in spread(samples.count, limit)
    ]


def _refuse_rejected(pivot: FloatModel, samples: Samples) -> None:
    """Whether it was a sample that stopped the calibration.

    Raises:
        DataError: the float model cannot run on one.
    """
    runner = tflite.Runner(pivot.path)
    for batch in _batches(pivot, samples):
        try:
            runner.run(batch)
        except ModelError as error:
            raise DataError(
                f"{pivot.source.path.name} rejects a sample of the calibration data: "
                f"{error.message}",
                hint="do its values mean what the model was trained on?",
            ) from error


def _why_not(pivot: FloatModel, precision: str, error: Exception) -> str:
    name = pivot.source.path.name
    ops = frozenset(tflite.op_names(pivot.path))
    # calibration cannot see inside a loop, nor all of one unrolled: "Tensor data is null"
    if _LOOP in ops or ("Tensor data is null" in str(error) and ops >= _GATES):
        return f"{name} cannot be quantized to {precision}: it has recurrent layers"
    reason = textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__
    return f"{name} cannot be quantized to {precision}: {reason}"


def _run(content: bytes, rules: tflite_recipes.Rules, ranges: Ranges | None) -> bytes:
    from ai_edge_quantizer import quantizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice for its own command line
        result = quantizer.Quantizer(content, rules).quantize(ranges, enable_progress_report=False)
        return bytes(result.quantized_model)
