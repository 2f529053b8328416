"""How good an artifact is on the samples that judge it, and on others that order candidates."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeq import cache
from edgeq.convert import Gathered
from edgeq.core import calibration, quality
from edgeq.core.drop import Counts
from edgeq.core.model import TensorSpec
from edgeq.core.quality import Comparison, Quality
from edgeq.core.samples import Samples, spread
from edgeq.errors import DataError
from edgeq.ports import Array, Floats, Predict
from edgeq.search.clock import Clock

_APART_SAMPLES = 64
_FIRST_CHUNK = 32
_GROWTH = 32
# Of the time left, for one request to the agent, which cannot be broken off.
_CHUNK_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one artifact.

    Attributes:
        counts: None without labels or class scores.
        apart_sqnr_db: On other samples than ``quality``; None for equal answers, or no samples.
    """

    quality: Quality
    counts: Counts | None
    apart_sqnr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """``judging`` samples, from ``origin``; ``apart``: others, None where there are none."""

    judging: Samples
    origin: quality.QualitySource
    apart: Samples | None


def data(gathered: Gathered) -> Data:
    """Evaluation data judges best, then what calibration left over, then what it used.

    Raises:
        DataError: there are none; random numbers prove nothing.
    """
    used = gathered.calibration
    apart = None if used is None else some(gathered.spare or used, _APART_SAMPLES)
    if gathered.evaluation is not None:
        return Data(judging=gathered.evaluation, origin="evaluation", apart=apart)
    if used is None:
        raise DataError(
            "a search needs samples to judge by",
            hint="give some with --evaluate PATH (labelled ones, best) or --calibration PATH",
        )
    # their labels are for choosing samples; a figure called accuracy needs data kept apart
    judging = replace(gathered.spare or used, labels=None)
    return Data(judging=judging, origin="calibration", apart=some(used, _APART_SAMPLES))


def some(samples: Samples, count: int) -> Samples:
    """At most so many, spread evenly."""
    if samples.count <= count:
        return samples
    return calibration.take(samples, spread(samples.count, count))


class Bench:
    """Compares artifacts with the pivot, whose answers are worked out once.

    Args:
        clock: The search's.
    """

    def __init__(self, gathered: Gathered, given: Data, predict: Predict, clock: Clock) -> None:
        self._pivot = gathered.pivot
        self._given = given
        self._predict = predict
        self._clock = clock
        groups = [given.apart, given.judging] if given.apart else [given.judging]
        self._apart = given.apart.count if given.apart else 0
        self._inputs = _joined(groups, self._pivot.inputs)
        self._expected: list[Floats] = []

    @property
    def key(self) -> dict[str, object]:
        """What figures depend on beside the artifact."""
        return {
            **cache.versions(),
            "pivot": self._pivot.sha256,
            "judging": self._given.judging.sha256,
            "labelled": self._given.judging.labels is not None,
            "origin": self._given.origin,
            "apart": self._given.apart.sha256 if self._given.apart else None,
        }

    def figures(self, artifact: Path) -> Figures:
        """Run and compare.

        Raises:
            ModelError: NaN in the outputs, or the runtime refuses the artifact.
            TrialError: it crashes.
            DataError: labels that the model has no class for.
            TimeIsUpError: the search has no time left.
        """
        if not self._expected:
            self._expected = self._answers(self._pivot.path)
            quality.refuse_nan("float model", self._expected)
        outputs = self._answers(artifact)
        apart, judging = Comparison(self._pivot.inputs), Comparison(self._pivot.inputs)
        cut = self._apart
        if cut:
            apart.add(_part(self._expected, 0, cut), _part(outputs, 0, cut), None)
        labels = self._given.judging.labels
        judging.add(_part(self._expected, cut, None), _part(outputs, cut, None), labels)
        compared = judging.quality(self._given.origin)
        counts = None
        if compared.accuracy_drop is not None:
            pairs = judging.scores.pairs
            counts = Counts(
                samples=pairs.labelled, losses=pairs.float_only, gains=pairs.artifact_only
            )
        return Figures(
            quality=compared, counts=counts, apart_sqnr_db=apart.sqnr_db if cut else None
        )

    def _answers(self, model: Path) -> list[Floats]:
        parts = list(self._chunks(model))
        return [np.concatenate([part[i] for part in parts]) for i in range(len(parts[0]))]

    def _chunks(self, model: Path) -> Iterator[list[Floats]]:
        """Outputs piece by piece, no piece larger than there is time for."""
        total, start, size = len(self._inputs[0]), 0, _FIRST_CHUNK
        while start < total:
            self._clock.check()
            began_s = time.monotonic()
            yield self._predict(model, [array[start : start + size] for array in self._inputs])
            start += size
            took_s = max(time.monotonic() - began_s, 1e-6)
            fitting = int(size * _CHUNK_SHARE * self._clock.left_s / took_s)
            size = max(1, min(_GROWTH * size, fitting))


def _joined(groups: Sequence[Samples], inputs: Sequence[TensorSpec]) -> list[Array]:
    return [
        np.concatenate([samples.inputs[i].astype(spec.dtype) for samples in groups])
        for i, spec in enumerate(inputs)
    ]


def _part(arrays: Sequence[Floats], start: int, end: int | None) -> list[Floats]:
    return [array[start:end] for array in arrays]
