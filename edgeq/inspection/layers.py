"""The error of each layer: an artifact and its float model side by side, tensor by tensor."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.core import matching
from edgeq.core.graph import Graph, present, producers
from edgeq.core.inspection import AgainstSection
from edgeq.core.layers import Error, Tally
from edgeq.core.samples import Samples
from edgeq.errors import ModelError
from edgeq.inspection import judging, traces
from edgeq.inspection.judging import Measured, Pair
from edgeq.inspection.tensors import Array, Doubles, real, stored
from edgeq.inspection.traces import Trace
from edgeq.inspection.weights import Weights
from edgeq.ports import OnProgress

_IMAGE_SIDES = 4


def compare(
    pair: Pair, samples: Samples, source: str, data: str, on_progress: OnProgress
) -> AgainstSection:
    """Run both on all samples and give every layer's error, worst first.

    Raises:
        ModelError: a runtime cannot run one of them, or one gives NaN.
    """
    return _Comparison(pair, samples, on_progress).section(source, data)


class _Comparison:
    def __init__(self, pair: Pair, samples: Samples, on_progress: OnProgress) -> None:
        self._pair = pair
        self._samples = samples
        self._on_progress = on_progress
        self._weights = Weights(
            tensors=pair.raw.tensors,
            constants=traces.constants(pair.format, pair.artifact, pair.raw),
            plain=traces.constants(pair.format, pair.plain_path, pair.plain),
        )
        self._match = matching.match(pair.raw, pair.computed, pair.plain, self._weights.likeness)
        self._producers = producers(pair.computed)

    def section(self, source: str, data: str) -> AgainstSection:
        pairs = self._match.pairs
        plain = traces.trace(
            self._pair.format, self._pair.plain_path, self._pair.plain, pairs.values()
        )
        errors = self._errors(plain)
        own, fed = self._own_errors(plain, errors)
        measured = Measured(
            pair=self._pair,
            match=self._match,
            weights=self._weights,
            errors=errors,
            own=own,
            fed=fed,
        )
        layers = judging.layers(measured)
        layers.sort(key=lambda layer: (layer.sqnr_db is None, layer.sqnr_db or 0.0, layer.number))
        tensors = self._pair.raw.tensors
        return AgainstSection(
            source=source,
            samples=self._samples.count,
            data=data,
            layers=tuple(layers),
            unmatched=tuple(tensors[number].name for number in self._match.unmatched),
        )

    def _errors(self, plain: Trace) -> dict[int, Error]:
        """Of every tensor that an operator writes, and of inputs that are quantized."""
        pair, tensors = self._pair, self._pair.raw.tensors
        shown = {n: other for n, other in self._match.pairs.items() if self._is_layer(n)}
        artifact = traces.trace(pair.format, pair.artifact, pair.raw, shown)
        tallies = {number: self._tally(number) for number in shown}
        for place in range(self._samples.count):
            self._on_progress("compare", place, self._samples.count)
            expected = plain.run(self._inputs(pair.plain, place))
            found = artifact.run(self._inputs(pair.raw, place))
            for number, other in shown.items():
                if number in found and other in expected:
                    values = real(tensors[number], found[number])
                    self._add(tallies[number], number, expected[other], values)
        return _errors(tallies)

    def _is_layer(self, number: int) -> bool:
        """What an operator computes, or an input of the model once it is quantized."""
        place = self._producers.get(number)
        if place is None:
            return self._pair.raw.tensors[number].quantization is not None
        op = self._pair.computed.ops[place]
        return op.kind not in self._pair.raw.conversions or op.inputs[0] in self._pair.raw.inputs

    def _own_errors(
        self, plain: Trace, errors: Mapping[int, Error]
    ) -> tuple[dict[int, Error], dict[int, Error]]:
        """What each operator adds when it is given the float model's values.

        The second: what rounding those to the inputs' types adds.
        """
        pair, tensors = self._pair, self._pair.raw.tensors
        try:
            cut = traces.cut(pair.format, pair.artifact, pair.raw, pair.computed)
        except ModelError:  # with state or branches: what it adds stays unknown
            return {}, {}
        known = set(cut.inputs) & set(self._match.pairs)
        rounded = {number: self._tally(number) for number in known}
        tallies = {
            number: self._tally(number)
            for number in cut.outputs
            if number in errors and self._inputs_known(number, cut.inputs, known)
        }
        for place in range(self._samples.count):
            self._on_progress("compare each operator", place, self._samples.count)
            expected = plain.run(self._inputs(pair.plain, place))
            feed = {number: self._fed(number, expected, errors) for number in cut.inputs}
            found = cut.run(feed)
            for number in known:
                values = real(tensors[number], feed[number])
                self._add_own(rounded[number], number, expected, values, errors)
            for number, tally in tallies.items():
                values = real(tensors[number], found[number])
                self._add_own(tally, number, expected, values, errors)
        return _errors(tallies), _errors(rounded)

    def _add_own(
        self,
        tally: Tally,
        number: int,
        expected: Mapping[int, Array],
        values: Doubles,
        errors: Mapping[int, Error],
    ) -> None:
        if number in errors:
            values = _scaled(values, errors[number], self._axis(number), undo=True)
        self._add(tally, number, expected[self._match.pairs[number]], values)

    def _inputs_known(self, number: int, fed: Sequence[int], known: set[int]) -> bool:
        op = self._pair.computed.ops[self._producers[number]]
        return all(one in known for one in present(op.inputs) if one in fed)

    def _fed(
        self, number: int, expected: Mapping[int, Array], errors: Mapping[int, Error]
    ) -> Array:
        """The float model's value of a tensor, as the artifact would hold it; else zeros."""
        tensor = self._pair.raw.tensors[number]
        if number not in self._match.pairs:
            return stored(tensor, np.zeros([side or 1 for side in tensor.shape or ()]))
        shape = [side or 1 for side in tensor.shape or ()]
        values = np.asarray(expected[self._match.pairs[number]], np.float64).reshape(shape)
        if number in errors:
            values = _scaled(values, errors[number], self._axis(number), undo=False)
        return stored(tensor, values)

    def _inputs(self, graph: Graph, place: int) -> list[Array]:
        """One sample as the model's inputs, quantized where they are."""
        samples = [array[place : place + 1] for array in self._samples.inputs]
        tensors = (graph.tensors[number] for number in graph.inputs)
        return [
            stored(tensor, np.asarray(sample, np.float64)).reshape(sample.shape)
            for tensor, sample in zip(tensors, samples, strict=True)
        ]

    def _add(self, tally: Tally, number: int, plain: Array, artifact: Doubles) -> None:
        name = self._pair.raw.tensors[number].name
        if plain.size != artifact.size:
            raise ModelError(
                f"tensor {name} has the shape {artifact.shape} here, {plain.shape} in the float"
                " model"
            )
        for what, values in (("float model", plain), ("artifact", artifact)):
            if not np.all(np.isfinite(values)):
                raise ModelError(f"tensor {name} is NaN or infinite in the {what}")
        tally.add(np.reshape(plain, artifact.shape), artifact)

    def _tally(self, number: int) -> Tally:
        return Tally(self._axis(number), judging.limits(self._pair.raw, number))

    def _axis(self, number: int) -> int:
        """Channels come last in a .tflite; in an .onnx second, where there are images."""
        shape = self._pair.raw.tensors[number].shape or ()
        return 1 if self._pair.format == "onnx" and len(shape) >= _IMAGE_SIDES else -1


def _errors(tallies: Mapping[int, Tally]) -> dict[int, Error]:
    return {number: error for number, tally in tallies.items() if (error := tally.error())}


def _scaled(values: Doubles, error: Error, axis: int, *, undo: bool) -> Doubles:
    """Channels times the factors that equalization left, or the other way."""
    if error.factors is None:
        return values
    sides = [1] * values.ndim
    sides[axis] = -1
    factors = error.factors.reshape(sides)
    return values / factors if undo else values * factors
