"""How close an artifact's answers are to its float model's.

With f the float model's outputs and a the artifact's, over all samples of one output:

* SQNR = 10 log10(sum f² / sum (f - a)²) dB
* cosine = the mean over samples of (f · a) / (|f| |a|)

With several outputs the worst one's figure stands for all. Top-1 agreement and accuracy need
class scores: one output of shape (samples, classes) with two classes or more, or of one number per
sample, which means class 1 above 0.5 (above 0 if the float model goes outside 0 to 1; such a
number without labels is no class score: it may be a regression's answer).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.metrics import Distance, ScoreKind
from edgeq.core.model import TensorSpec
from edgeq.core.scores import Batch, ClassScores
from edgeq.errors import ModelError

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
_ENOUGH = 20
_MARGIN = 0.05
QualitySource = Literal["evaluation", "calibration", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Unknown is None, and ``reasons`` says why.

    Attributes:
        sqnr_db: None when the answers are equal (it would be infinite) or all 0.
        top1_agreement: Share of samples for which both choose the same class.
        accuracy_drop: Float accuracy less the artifact's; negative when the artifact is better.
        source: Where the samples came from.
    """

    samples: int
    sqnr_db: float | None
    cosine: float
    top1_agreement: float | None
    float_accuracy: float | None
    artifact_accuracy: float | None
    accuracy_drop: float | None
    source: QualitySource
    reasons: tuple[str, ...] = ()


class Comparison:
    """A comparison that grows batch by batch; the figures are the same whatever the batches were.

    Args:
        inputs: The model's; an output of an input's shape is a reconstruction, not class scores.
    """

    def __init__(self, inputs: Sequence[TensorSpec] = ()) -> None:
        self.scores = ClassScores(inputs)
        self.distances: tuple[Distance, ...] = ()

    def add(
        self,
        float_outputs: Sequence[Floats],
        artifact_outputs: Sequence[Floats],
        labels: Classes | None,
    ) -> dict[ScoreKind, Batch]:
        """Take a batch: outputs of shape ``(samples, …)``, one array per output.

        Raises:
            ModelError: NaN or infinite values in either.
            DataError: a label that the model has no class for.
        """
        refuse_nan("float model", float_outputs)
        refuse_nan("artifact", artifact_outputs)
        self.distances = self.distances or tuple(Distance() for _ in float_outputs)
        outputs = zip(self.distances, float_outputs, artifact_outputs, strict=True)
        for distance, one, other in outputs:
            distance.add(one, other)
        return self.scores.add(float_outputs, artifact_outputs, labels)

    @property
    def sqnr_db(self) -> float | None:
        """The worst output's; None when the answers are equal or the float model's all 0."""
        return min((d.sqnr_db for d in self.distances if d.sqnr_db is not None), default=None)

    @property
    def cosine(self) -> float | None:
        """The worst output's; None before the first sample."""
        return min((d.cosine for d in self.distances if d.cosine is not None), default=None)

    @property
    def why_no_ratio(self) -> str:
        """Why ``sqnr_db`` is None."""
        if all(distance.equal for distance in self.distances):
            return "the artifact's outputs equal the float model's"
        return "the float model's outputs are all 0"

    def quality(self, source: QualitySource) -> Quality:
        """The figures.

        Raises:
            DataError: a label that the model has no class for.
        """
        reasons = [] if self.sqnr_db is not None else [f"sqnr_db: {self.why_no_ratio}"]
        top1 = _top1(self.scores)
        cosine = self.cosine
        return Quality(
            samples=self.distances[0].samples,
            sqnr_db=self.sqnr_db,
            cosine=0.0 if cosine is None else cosine,
            top1_agreement=top1.agreement,
            float_accuracy=top1.float_accuracy,
            artifact_accuracy=top1.artifact_accuracy,
            accuracy_drop=_difference(top1.float_accuracy, top1.artifact_accuracy),
            source=source,
            reasons=(*reasons, *top1.reasons),
        )


def compare(
    float_outputs: Sequence[Floats],
    artifact_outputs: Sequence[Floats],
    labels: Classes | None,
    *,
    source: QualitySource,
    inputs: Sequence[TensorSpec] = (),
) -> Quality:
    """Compare outputs of shape ``(samples, …)``, one array per output.

    Args:
        float_outputs: The pivot's.
        artifact_outputs: The artifact's, dequantized.
        labels: Class numbers from 0.
        source: Where the samples came from.
        inputs: The model's; an output of an input's shape is a reconstruction, not class scores.

    Raises:
        ModelError: NaN or infinite values in either.
        DataError: a label that the model has no class for.
    """
    comparison = Comparison(inputs)
    comparison.add(float_outputs, artifact_outputs, labels)
    return comparison.quality(source)


def refuse_nan(what: str, outputs: Sequence[Floats]) -> None:
    """Stop at values that are no numbers.

    Raises:
        ModelError: NaN or infinite values.
    """
    for place, array in enumerate(outputs):
        if not np.all(np.isfinite(array)):
            raise ModelError(
                f"output {place} of the {what} is NaN or infinite",
                hint="--precision int8-dynamic or fp16" if what == "artifact" else "",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Top1:
    agreement: float | None = None
    float_accuracy: float | None = None
    artifact_accuracy: float | None = None
    reasons: tuple[str, ...] = ()


def _top1(scores: ClassScores) -> _Top1:
    if problem := scores.problem:
        return _Top1(reasons=(f"top1_agreement: {problem}", f"accuracy: {problem}"))
    pairs = scores.pairs
    agreement = pairs.agreed / pairs.samples
    if not pairs.labelled:
        return _Top1(agreement=agreement, reasons=("accuracy: the samples have no labels",))
    return _Top1(
        agreement=agreement,
        float_accuracy=(pairs.both_right + pairs.float_only) / pairs.labelled,
        artifact_accuracy=(pairs.both_right + pairs.artifact_only) / pairs.labelled,
    )


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def classes_of(outputs: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> int | None:
    """How many classes a model has by its shapes; None when they do not tell."""
    sides = [side for side in outputs[0].shape[1:] if side != 1] if len(outputs) == 1 else []
    if len(sides) != 1 or outputs[0].shape[-1] != sides[0]:
        return None
    as_wide = any(int(np.prod(spec.shape[1:])) == sides[0] for spec in inputs)
    return None if as_wide else sides[0]


def guesses(quality: Quality, classes: int | None) -> bool:
    """Whether the float model is about as often right as a guess would be."""
    if quality.float_accuracy is None or classes is None:
        return False
    return is_guess(quality.float_accuracy, quality.samples, classes)


def is_guess(accuracy: float, samples: int, classes: int) -> bool:
    """Whether a model is about as often right as a guess would be.

    Half as much above chance still counts as a guess, but no more than 5 points: two classes.
    """
    chance = 1 / classes
    return samples >= _ENOUGH and accuracy <= chance + min(chance / 2, _MARGIN)
