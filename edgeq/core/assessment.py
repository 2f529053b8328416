"""What two models, or one of them, answered: batch by batch in, sections of an evaluation out."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgeq.core import drop, quality
from edgeq.core.corruptions import Corruption
from edgeq.core.drop import Counts
from edgeq.core.evaluation import (
    ClassSection,
    ComparisonSection,
    CorruptionSection,
    Mistake,
    OutputSection,
    ScoresSection,
)
from edgeq.core.metrics import Pairs, ScoreKind, Tally
from edgeq.core.model import TensorSpec
from edgeq.core.quality import Comparison
from edgeq.core.robustness import Turns, holm
from edgeq.core.scores import Batch, ClassScores

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
CONFIDENCE = 0.975
"""Of each end of an interval; both ends together hold with 95 %."""
_MODELS = ("float", "artifact")
_SHOWN_MISTAKES = 10
_MOST_CONFUSION = 1000


class Assessment:
    """One pass over the data: the float model, the artifact, or both.

    Args:
        inputs: The model's.
        names: Of its outputs.
    """

    def __init__(self, inputs: Sequence[TensorSpec], names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._comparison = Comparison(inputs)
        self.samples = 0
        self.has_float = self.has_artifact = False

    def add(
        self,
        one: Sequence[Floats] | None,
        other: Sequence[Floats] | None,
        labels: Classes | None,
    ) -> dict[ScoreKind, Batch]:
        """Take a batch of the float model's outputs, the artifact's or both; it is given read.

        Raises:
            ModelError: NaN or infinite values in either.
            DataError: a label that the model has no class for.
        """
        self.has_float, self.has_artifact = one is not None, other is not None
        if one is not None and other is not None:
            self.samples += len(one[0])
            return self._comparison.add(one, other, labels)
        for what, outputs in (("float model", one), ("artifact", other)):
            if outputs is not None:
                self.samples += len(outputs[0])
                quality.refuse_nan(what, outputs)
        return self.scores.add(one, other, labels)

    @property
    def scores(self) -> ClassScores:
        return self._comparison.scores

    @property
    def problem(self) -> str:
        """Why there are no class scores; empty if there are."""
        return self.scores.problem

    def float_scores(self) -> ScoresSection | None:
        """None without a float model, labels or class scores."""
        return None if self.problem else _scores(self.scores.float_tally, self.scores.classes)

    def artifact_scores(self) -> ScoresSection | None:
        """Likewise, of the artifact."""
        return None if self.problem else _scores(self.scores.artifact_tally, self.scores.classes)

    def comparison(self) -> ComparisonSection | None:
        """None unless both models answered."""
        if not (self.has_float and self.has_artifact):
            return None
        pairs = None if self.problem else self.scores.pairs
        counts = _counts(pairs)
        found = self._comparison
        return ComparisonSection(
            agreement=pairs.agreed / pairs.samples if pairs else None,
            agreement_ci=_share_ci(pairs.agreed, pairs.samples) if pairs else None,
            accuracy_drop=counts.drop if counts else None,
            drop_ci=_drop_ci(counts),
            lost=counts.losses if counts else None,
            gained=counts.gains if counts else None,
            sqnr_db=found.sqnr_db,
            cosine=found.cosine,
            max_abs_error=max(distance.max_abs_error for distance in found.distances),
            outputs=tuple(
                OutputSection(
                    name=name,
                    sqnr_db=distance.sqnr_db,
                    cosine=distance.cosine,
                    max_abs_error=distance.max_abs_error,
                )
                for name, distance in zip(self._names, found.distances, strict=True)
            ),
        )

    def classes(self, names: Sequence[str]) -> tuple[ClassSection, ...]:
        """Each class that has samples; ``names`` by number, or none."""
        if self.problem:
            return ()
        one, other = (
            tally.by_class() for tally in (self.scores.float_tally, self.scores.artifact_tally)
        )
        return tuple(
            ClassSection(
                label=label,
                name=names[label] if label < len(names) else None,
                samples=(one.get(label) or other[label])[1],
                float_accuracy=_share(one.get(label)),
                artifact_accuracy=_share(other.get(label)),
            )
            for label in sorted({*one, *other})
        )

    @property
    def equal(self) -> bool:
        """Both models gave the same answers, bit for bit."""
        distances = self._comparison.distances
        return bool(distances) and all(distance.equal for distance in distances)

    def unavailable(self) -> Iterator[tuple[str, str]]:
        """Null fields and why they are null."""
        if not self.has_float:
            yield "float_scores", "no float model was given"
        if not self.has_artifact:
            yield "artifact_scores", "no artifact was given"
        for name in self._given():
            if reason := self._no_scores(name):
                yield f"{name}_scores", reason
            elif self._tally(name).in_top is None:
                few = f"the model has only {self.scores.classes} classes"
                yield f"{name}_scores.top5_accuracy", few
        yield from self._nothing_to_compare()

    def _nothing_to_compare(self) -> Iterator[tuple[str, str]]:
        if len(self._given()) < len(_MODELS):
            yield "comparison", "only one model was given"
            return
        if self.problem:
            yield "comparison.agreement", self.problem
        if reason := self._no_scores("artifact"):
            yield "comparison.accuracy_drop", reason
        if self._comparison.sqnr_db is None:
            yield "comparison.sqnr_db", self._comparison.why_no_ratio

    def _given(self) -> tuple[str, ...]:
        there = {"float": self.has_float, "artifact": self.has_artifact}
        return tuple(name for name in _MODELS if there[name])

    def _no_scores(self, name: str) -> str:
        if self.problem:
            return self.problem
        return "" if self._tally(name).samples else "the samples have no labels"

    def _tally(self, name: str) -> Tally:
        return self.scores.float_tally if name == "float" else self.scores.artifact_tally


def corruption_sections(
    clean: Assessment, passes: Sequence[tuple[Corruption, Assessment, Turns]]
) -> tuple[CorruptionSection, ...]:
    """All corruptions beside the clean data."""
    kind = clean.scores.kind
    chances = [turns.chance(kind) for _, _, turns in passes]
    stands = holm(chances)
    return tuple(
        _corruption(clean, made, found, chance, stand)
        for (made, found, _), chance, stand in zip(passes, chances, stands, strict=True)
    )


def _corruption(
    clean: Assessment, made: Corruption, found: Assessment, chance: float, stands: bool
) -> CorruptionSection:
    one, other = found.float_scores(), found.artifact_scores()
    compared, before = found.comparison(), clean.comparison()
    extra = _difference(
        compared.accuracy_drop if compared else None, before.accuracy_drop if before else None
    )
    return CorruptionSection(
        name=made.name,
        severity=made.severity,
        parameter=made.parameter,
        value=made.value,
        float_accuracy=one.top1_accuracy if one else None,
        artifact_accuracy=other.top1_accuracy if other else None,
        accuracy_drop=compared.accuracy_drop if compared else None,
        drop_ci=compared.drop_ci if compared else None,
        extra_drop=extra,
        extra_drop_p=None if extra is None else chance,
        significant=None if extra is None else stands and extra > 0,
        float_ece=one.ece if one else None,
        artifact_ece=other.ece if other else None,
        agreement=compared.agreement if compared else None,
        sqnr_db=compared.sqnr_db if compared else None,
    )


def _scores(tally: Tally, classes: int) -> ScoresSection | None:
    if not tally.samples:
        return None
    small = classes <= _MOST_CONFUSION
    return ScoresSection(
        top1_accuracy=tally.right / tally.samples,
        top1_ci=_share_ci(tally.right, tally.samples),
        top5_accuracy=None if tally.in_top is None else tally.in_top / tally.samples,
        ece=tally.calibration.error,
        confusion=tuple(map(tuple, tally.confusion(classes).tolist())) if small else None,
        mistakes=tuple(
            Mistake(label=label, answer=answer, samples=samples)
            for label, answer, samples in tally.mistakes()[:_SHOWN_MISTAKES]
        ),
    )


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _counts(pairs: Pairs | None) -> Counts | None:
    if pairs is None or not pairs.labelled:
        return None
    return Counts(samples=pairs.labelled, losses=pairs.float_only, gains=pairs.artifact_only)


def _drop_ci(counts: Counts | None) -> tuple[float, float] | None:
    if counts is None:
        return None
    found = drop.drop_interval(counts, CONFIDENCE)
    return found.low, found.high


def _share_ci(hits: int, samples: int) -> tuple[float, float]:
    found = drop.share_interval(hits, samples, CONFIDENCE)
    return found.low, found.high


def _share(right_of: tuple[int, int] | None) -> float | None:
    return None if right_of is None else right_of[0] / right_of[1]
