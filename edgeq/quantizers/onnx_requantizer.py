"""One float .onnx quantized by many recipes: calibrated once."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeq import equalize
from edgeq.biases import onnx as biases
from edgeq.core import calibration as choosing
from edgeq.core.model import FloatModel
from edgeq.core.ranges import RULES, Range, Rule, Seen
from edgeq.core.samples import Samples, spread
from edgeq.errors import DataError, ModelError
from edgeq.formats import Array, onnx_graph
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.ports import Recipe
from edgeq.quantizers import (
    onnx_edges,
    onnx_few_bits,
    onnx_half,
    onnx_ranges,
    onnx_static,
    onnx_weights,
)
from edgeq.quantizers.onnx_static import Static
from edgeq.quantizers.outcome import other_precisions

CALIBRATED = frozenset({"int8", "int16x8", "mixed"})
"""Precisions whose activations have fixed ranges."""

_USUAL_OPSET = 20
"""Of newer ones ONNX Runtime may lack the int8 kernels: 1.19 loads opset 21 without QLinearMatMul,
1.23 (JetPack 6) loads opset 23 without QuantizeLinear."""

_PROBES = 4
_JUDGES = 48
"""Samples that a rule for ranges is judged by."""

_GAIN = 10 ** (-0.1 / 10)
"""A rule that cuts off is taken where it lowers the noise by 0.1 dB at least."""

_WIDE_GAIN = 10 ** (-0.5 / 10)
"""Weights of 8 bits are taken on a processor whose products overflow where they are better by 0.5
dB all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantized:
    """A quantized file; ``notes`` are plain sentences, for the report."""

    content: bytes
    notes: tuple[str, ...]


class Requantizer:
    """Quantizes one pivot; what recipes share is worked out once, when first needed.

    Args:
        pivot: A float .onnx.
        calibration: For recipes whose activations have fixed ranges; None: there are no data.
    """

    def __init__(self, pivot: FloatModel, calibration: Samples | None) -> None:
        self._pivot = pivot
        self._calibration = calibration
        self._plain = _Prepared(pivot, calibration, pivot.path)

    def quantize(self, recipe: Recipe) -> Requantized:
        """The quantized file.

        Raises:
            ModelError: the model cannot be quantized so.
            DataError: the recipe needs calibration data, or the model rejects a sample of it.
            ConfigError: ``keep_float`` names no tensor or node of the model.
        """
        notes: list[str] = []
        prepared = self._plain
        if recipe.equalize:
            prepared, equalized = self._equalized
            notes += [f"not equalized: {equalized.reason}"] if equalized.reason else []
        model, more = prepared.quantize(recipe)
        return Requantized(content=files.to_bytes(model), notes=(*notes, *more))

    def op_tensors(self) -> tuple[str, ...]:
        """Names that ``keep_float`` takes, one an op, in execution order."""
        nodes = self._plain.model.graph.node
        return tuple(node.output[0] for node in nodes if node.output)

    @cached_property
    def _equalized(self) -> tuple["_Prepared", equalize.Equalized]:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            out = Path(folder) / self._pivot.path.name
            made = equalize.equalize(self._pivot.path, out, self._some_batches())
            return _Prepared(self._pivot, self._calibration, out), made

    def _some_batches(self) -> list[tuple[Array, ...]] | None:
        if self._calibration is None:
            return None
        some = choosing.take(self._calibration, spread(self._calibration.count, _PROBES))
        return [tuple(feed.values()) for feed in onnx_ranges.feeds(self._plain.model, some)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """``overflowing``: weights of 8 bits although products of 8 bits overflow."""

    rule: Rule
    overflowing: bool = False

    def applied(self, recipe: Recipe) -> Recipe:
        return replace(recipe, reduce_range=recipe.reduce_range and not self.overflowing)

    def marked(self, model: Model) -> Model:
        """Changes it: sessions are to take the products that it was judged with."""
        if self.overflowing:
            model.metadata_props.add(key=files.PLAIN_KEY, value="")
        return model


class _Prepared:
    """A float model, its ranges and the best rule for them.

    Args:
        pivot: What the user's words name.
        calibration: See ``Requantizer``.
        path: Of the file to quantize, which computes what the pivot does.
    """

    def __init__(self, pivot: FloatModel, calibration: Samples | None, path: Path) -> None:
        self._name = pivot.source.path.name
        self._calibration = calibration
        self.model = onnx_graph.simplified(files.read(path), self._name)
        self._choices: dict[Recipe, _Choice] = {}

    def quantize(self, recipe: Recipe) -> tuple[Model, tuple[str, ...]]:
        """See ``Requantizer.quantize``."""
        kept = onnx_static.nodes_kept(self.model, recipe.keep_float)
        try:
            made, notes = self._made(self._at_opset(recipe), recipe, kept)
        except files.errors() as error:
            raise ModelError(
                f"{self._name} cannot be quantized to {recipe.precision}: {files.reason(error)}",
                hint=other_precisions(recipe.precision),
            ) from error
        made.ir_version = onnx_graph.ir_for(files.opset(made))
        if recipe.ir_max is not None:
            made.ir_version = min(made.ir_version, recipe.ir_max)
        return made, notes

    def _made(
        self, model: Model, recipe: Recipe, kept: frozenset[str]
    ) -> tuple[Model, tuple[str, ...]]:
        match recipe.precision:
            case "float32":
                return model, ()
            case "fp16":
                return onnx_half.halved(model, kept), ()
            case "int8-dynamic" | "int4-weights":
                return onnx_few_bits.weights(model, recipe, kept)
            case "int8" | "int16x8" | "mixed":
                return self._static(model, recipe, kept), ()

    def _at_opset(self, recipe: Recipe) -> Model:
        """At an opset that most devices take, if the model allows, and no newer than may be.

        Raises:
            ModelError: it needs a newer one.
        """
        limit = recipe.opset_max or files.opset(self.model)
        if limit < onnx_graph.OPSET_MIN and recipe.precision in CALIBRATED:
            raise ModelError(
                f"int8 with a scale per channel needs opset {onnx_graph.OPSET_MIN}, and the "
                f"profile's opset_max is {recipe.opset_max}",
                hint="set [conversion] opset_max to what the device's ONNX Runtime takes",
            )
        model = files.copy(self.model)
        wanted = min(limit, files.opset(model))
        try:
            return onnx_graph.at_opset(model, min(wanted, _USUAL_OPSET), self._name)
        except ModelError:
            if wanted <= _USUAL_OPSET:
                raise
            return onnx_graph.at_opset(model, wanted, self._name)

    def _static(self, model: Model, recipe: Recipe, kept: frozenset[str]) -> Model:
        choice = self._choice(model, recipe)
        ranges = onnx_ranges.by_rule(self._seen, choice.rule)
        made = _static(model, ranges, choice.applied(recipe), kept)
        if recipe.correct_bias:
            corrected = biases.corrected(model, made, self._means)
            made = _static(corrected, ranges, choice.applied(recipe), kept)
        onnx_edges.set_types(made, recipe.input_dtype, recipe.output_dtype, ranges)
        return choice.marked(made)

    def _choice(self, model: Model, recipe: Recipe) -> "_Choice":
        """What gives the least noise on the calibration data; 16 bits need no choosing."""
        if recipe.precision == "int16x8":
            return _Choice(rule="minmax")
        plain = replace(
            recipe,
            precision="int8",
            keep_float=(),
            correct_bias=False,
            input_dtype="float32",
            output_dtype="float32",
        )
        if plain not in self._choices:
            self._choices[plain] = self._chosen(model, plain)
        return self._choices[plain]

    def _chosen(self, model: Model, recipe: Recipe) -> "_Choice":
        noises: dict[_Choice, float] = {}

        def judge(choice: _Choice) -> float:
            ranges = onnx_ranges.by_rule(self._seen, choice.rule)
            made = _static(model, ranges, choice.applied(recipe), frozenset())
            noises[choice] = self._noise(choice.marked(made))
            return noises[choice]

        safe = _Choice(rule="minmax")
        rules = [_Choice(rule=rule) for rule in RULES]
        best = min(rules, key=judge)
        best = best if noises[best] < _GAIN * noises[safe] else safe
        if not recipe.reduce_range:
            return best
        wide = [_Choice(rule=rule, overflowing=True) for rule in (best.rule, "minmax")]
        risky = min(wide, key=judge)
        return risky if noises[risky] < _WIDE_GAIN * noises[best] else best

    def _noise(self, made: Model) -> float:
        """The share of noise in the worst output over some calibration samples."""
        loaded = files.session(made, self._name)
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        for feed, expected in self._expected:
            for name, got in files.run(loaded, feed).items():
                want, given = (np.asarray(one, np.float64) for one in (expected[name], got))
                signal[name] = signal.get(name, 0.0) + float((want**2).sum())
                noise[name] = noise.get(name, 0.0) + float(((want - given) ** 2).sum())
        return max((noise[name] / signal[name] for name in signal if signal[name]), default=0.0)

    @cached_property
    def _expected(self) -> Sequence[tuple[dict[str, Array], dict[str, Array]]]:
        """Some calibration samples and the float model's answers."""
        samples = self._samples
        judges = choosing.take(samples, spread(samples.count, _JUDGES))
        loaded = files.session(self.model, self._name)
        return [(feed, files.run(loaded, feed)) for feed in onnx_ranges.feeds(self.model, judges)]

    @cached_property
    def _means(self) -> biases.Means:
        return biases.measure(self.model, onnx_ranges.feeds(self.model, self._samples))

    @cached_property
    def _seen(self) -> Mapping[str, Seen]:
        return onnx_ranges.measure(self.model, self._samples)

    @property
    def _samples(self) -> Samples:
        if self._calibration is None:
            raise DataError(
                "fixed ranges of activations need calibration data, and there is none",
                hint="give some with --calibration PATH or [calibration] in edgeq.toml",
            )
        return self._calibration


def _static(
    model: Model, ranges: Mapping[str, Range], recipe: Recipe, kept: frozenset[str]
) -> Model:
    bits = 7 if recipe.reduce_range else 8
    clipped = onnx_weights.clipped(model, bits) if recipe.weights == "octav" else model
    wide = recipe.precision == "int16x8"
    return onnx_static.quantized(clipped, ranges, Static(recipe=recipe, wide=wide, kept=kept))
