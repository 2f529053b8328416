"""The data through the models, a chunk at a time: clean, and under every corruption."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeq.core import calibration, corruptions
from edgeq.core.assessment import Assessment
from edgeq.core.corruptions import Corruption
from edgeq.core.metrics import ScoreKind
from edgeq.core.robustness import Turns
from edgeq.core.samples import Samples
from edgeq.core.scores import Batch
from edgeq.datasets import jpeg
from edgeq.errors import DataError
from edgeq.evaluation.spool import Spool
from edgeq.evaluation.subjects import Pair, Subject
from edgeq.ports import Array, Chunk, Floats, Predict, TensorSpecs

# Large enough that starting a child of the agent, half a second, does not count; small enough that
# a few copies of it are nothing.
CHUNK_BYTES = 16 << 20
_GROUP_BYTES = 48 << 20
_MOST_SAMPLES = 4096
_PIECE_S = 20.0
_FIRST_PIECE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Where each model runs; the names are for the report."""

    float_model: Predict
    float_on: str
    artifact: Predict
    artifact_on: str


@dataclass(slots=True, kw_only=True)
class Pass:
    """All of the data, clean or under one corruption."""

    corruption: Corruption | None
    found: Assessment
    turns: Turns = field(default_factory=Turns)


def chunk_samples(pair: Pair) -> int:
    """How many samples are read together: what fits ``CHUNK_BYTES``, inputs or outputs."""
    sizes = [
        4 * sum(int(np.prod(spec.shape[1:])) for spec in specs)
        for specs in (pair.leader.inputs, pair.leader.outputs)
    ]
    return min(_MOST_SAMPLES, max(1, CHUNK_BYTES // max(*sizes, 1)))


def run(
    chunks: Iterator[Chunk],
    pair: Pair,
    machines: Machines,
    passes: Sequence[Pass],
    spool: Spool | None,
    on_samples: Callable[[int], None],
) -> None:
    """Send every chunk through both models once for each pass, the clean one first.

    Args:
        chunks: The data in order.
        pair: The models.
        machines: Where they run.
        passes: What is found is added to them.
        spool: Takes the outputs on clean data; None: nobody needs them.
        on_samples: Hears how many samples were done.

    Raises:
        ModelError: a model gives NaN, or cannot be run.
        DataError: the data cannot be used.
    """
    models = _Models(pair, machines)
    first = 0
    for chunk in chunks:
        samples = chunk.samples()
        _refuse_unusable(samples, pair.inputs, first)
        clean: dict[ScoreKind, Batch] = {}
        for group in _groups(passes, samples):
            batches = [_altered(chunk, samples, item.corruption) for item in group]
            one, other = models.answer(batches)
            for place, item in enumerate(group):
                rows = slice(place * samples.count, (place + 1) * samples.count)
                mine, theirs = _cut(one, rows), _cut(other, rows)
                read = item.found.add(mine, theirs, samples.labels)
                if item.corruption is None:
                    clean = read
                    if spool:
                        spool.add(mine, theirs, samples.labels)
                else:
                    item.turns.add(clean, read)
            on_samples(samples.count * len(group))
        first += samples.count


class _Models:
    """Both models on the same inputs."""

    def __init__(self, pair: Pair, machines: Machines) -> None:
        self._pair = pair
        self._float = Paced(machines.float_model)
        self._artifact = Paced(machines.artifact)

    def answer(self, batches: Sequence[Samples]) -> tuple[list[Floats] | None, list[Floats] | None]:
        """The float model's outputs and the artifact's, in the float model's order."""
        pair = self._pair
        inputs: list[Array] = [
            np.concatenate([batch.inputs[place] for batch in batches])
            for place in range(len(batches[0].inputs))
        ]
        one = other = None
        if pair.float_model:
            one = _run(self._float, pair.float_model, inputs, range(len(inputs)))
        if pair.artifact:
            answers = _run(self._artifact, pair.artifact, inputs, pair.input_order)
            other = [answers[place] for place in pair.output_order]
        return one, other


class Paced:
    """A ``Predict`` that sends so many samples at once as take some 20 seconds.

    One call has a time limit, and a slow model on a slow device would meet it.
    """

    def __init__(self, predict: Predict, clock: Callable[[], float] = time.monotonic) -> None:
        self._predict = predict
        self._clock = clock
        self._piece = _FIRST_PIECE

    def __call__(self, model: Path, inputs: Sequence[Array]) -> list[Floats]:
        """See ``ports.Predict``."""
        parts: list[list[Floats]] = []
        start = 0
        while start < len(inputs[0]):
            count = min(self._piece, len(inputs[0]) - start)
            began_s = self._clock()
            parts.append(self._predict(model, [array[start : start + count] for array in inputs]))
            seconds = max(self._clock() - began_s, 1e-3)
            start += count
            if count == self._piece:
                self._piece = max(1, int(count * _PIECE_S / seconds))
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def _run(
    predict: Predict, subject: Subject, inputs: Sequence[Array], order: Sequence[int]
) -> list[Floats]:
    outputs = predict(subject.path, subject.feed(inputs, order))
    return [array.astype(np.float32, copy=False) for array in outputs]


def _groups(passes: Sequence[Pass], samples: Samples) -> Iterator[Sequence[Pass]]:
    """As many passes of one chunk together as memory allows, so that fewer calls are made."""
    size = max(1, _GROUP_BYTES // max(sum(array.nbytes for array in samples.inputs), 1))
    for start in range(0, len(passes), size):
        yield passes[start : start + size]


def _cut(outputs: list[Floats] | None, rows: slice) -> list[Floats] | None:
    return None if outputs is None else [array[rows] for array in outputs]


def _altered(chunk: Chunk, clean: Samples, corruption: Corruption | None) -> Samples:
    if corruption is None:
        return clean

    def change(array: Floats, first: int, place: int) -> Floats:
        if corruption.parameter in corruptions.OF_FEATURES:
            return corruptions.corrupt_features(array, corruption, first, place)
        if corruption.name == "jpeg":
            return jpeg.recompress(array, int(corruption.value))
        return corruptions.corrupt_pixels(array, corruption, first)

    return chunk.samples(change)


def _refuse_unusable(samples: Samples, inputs: TensorSpecs, first: int) -> None:
    for array in samples.inputs:
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            raise DataError(
                f"sample {first + int(np.argmin(finite))} of {samples.origin} has NaN or infinite "
                "values",
                hint="remove them, or mend what wrote them",
            )
    calibration.refuse_unusable(samples, inputs)
