"""How close an artifact's answers are to its float model's.

With f the float model's outputs and a the artifact's, over all samples of one output:

* SQNR = 10 log10(sum f² / sum (f - a)²) dB
* cosine = the mean over samples of (f · a) / (|f| |a|)

With several outputs the worst one's figure stands for all. Top-1 agreement and accuracy need
class scores: one output of shape (samples, classes) with two classes or more, or of one number per
sample, which means class 1 above 0.5 (above 0 if the float model goes outside 0 to 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.errors import DataError, ModelError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
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
    _refuse_nan("float model", float_outputs)
    _refuse_nan("artifact", artifact_outputs)
    pairs = [
        (_rows(one), _rows(other))
        for one, other in zip(float_outputs, artifact_outputs, strict=True)
    ]
    ratios = [_sqnr_db(one, other) for one, other in pairs]
    known = [ratio for ratio in ratios if ratio is not None]
    reasons = [] if known else [f"sqnr_db: {_why_no_ratio(pairs)}"]
    top1 = _top1(pairs[0], _no_classes(float_outputs, inputs), labels)
    return Quality(
        samples=len(float_outputs[0]),
        sqnr_db=min(known) if known else None,
        cosine=min(_cosine(one, other) for one, other in pairs),
        top1_agreement=top1.agreement,
        float_accuracy=top1.float_accuracy,
        artifact_accuracy=top1.artifact_accuracy,
        accuracy_drop=_difference(top1.float_accuracy, top1.artifact_accuracy),
        source=source,
        reasons=(*reasons, *top1.reasons),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Top1:
    agreement: float | None = None
    float_accuracy: float | None = None
    artifact_accuracy: float | None = None
    reasons: tuple[str, ...] = ()


def _top1(pair: tuple[Doubles, Doubles], problem: str, labels: Classes | None) -> _Top1:
    if problem:
        return _Top1(reasons=(f"top1_agreement: {problem}", f"accuracy: {problem}"))
    one, other = _chosen_classes(*pair)
    agreement = float(np.mean(one == other))
    if labels is None:
        return _Top1(agreement=agreement, reasons=("accuracy: the samples have no labels",))
    _refuse_labels(labels, pair[0].shape[1])
    return _Top1(
        agreement=agreement,
        float_accuracy=float(np.mean(one == labels)),
        artifact_accuracy=float(np.mean(other == labels)),
    )


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _refuse_nan(what: str, outputs: Sequence[Floats]) -> None:
    for place, array in enumerate(outputs):
        if not np.all(np.isfinite(array)):
            raise ModelError(
                f"output {place} of the {what} is NaN or infinite",
                hint="--precision int8-dynamic or fp16" if what == "artifact" else "",
            )


def _rows(array: Floats) -> Doubles:
    return array.reshape(len(array), -1).astype(np.float64)


def _sqnr_db(one: Doubles, other: Doubles) -> float | None:
    noise = float(np.sum((one - other) ** 2))
    signal = float(np.sum(one**2))
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else None


def _why_no_ratio(pairs: Sequence[tuple[Doubles, Doubles]]) -> str:
    if all(np.array_equal(one, other) for one, other in pairs):
        return "the artifact's outputs equal the float model's"
    return "the float model's outputs are all 0"


def _cosine(one: Doubles, other: Doubles) -> float:
    """A vector of zeros is like another one, and unlike anything else."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    both_zero = ~one.any(axis=1) & ~other.any(axis=1)
    products = np.sum(one * other, axis=1)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return float(np.mean(np.clip(np.where(both_zero, 1.0, cosines), -1.0, 1.0)))


def classes_of(outputs: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> int | None:
    """How many classes a model has by its shapes; None when they do not tell."""
    sides = [side for side in outputs[0].shape[1:] if side != 1] if len(outputs) == 1 else []
    if len(sides) != 1 or outputs[0].shape[-1] != sides[0]:
        return None
    as_wide = any(int(np.prod(spec.shape[1:])) == sides[0] for spec in inputs)
    return None if as_wide else sides[0]


def guesses(quality: Quality, classes: int | None) -> bool:
    """Whether the float model is about as often right as a guess would be.

    Half as much above chance still counts as a guess, but no more than 5 points: two classes.
    """
    if quality.float_accuracy is None or classes is None or quality.samples < _ENOUGH:
        return False
    chance = 1 / classes
    return quality.float_accuracy <= chance + min(chance / 2, _MARGIN)


def _no_classes(outputs: Sequence[Floats], inputs: Sequence[TensorSpec]) -> str:
    """Why the outputs are no class scores; empty if they are."""
    if len(outputs) > 1:
        return f"the model has {len(outputs)} outputs"
    shape = outputs[0].shape
    if len(shape) > 2 and any(side > 1 for side in shape[1:-1]):  # noqa: PLR2004  (samples, classes)
        return "the output is no row of class scores"
    same_size = any(int(np.prod(shape[1:])) == int(np.prod(spec.shape[1:])) > 1 for spec in inputs)
    if same_size and not _are_probabilities(_rows(outputs[0])):
        return "the output has the input's size: a reconstruction, not class scores"
    return ""


def _are_probabilities(rows: Doubles) -> bool:
    return bool(rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, atol=1e-3))


def _chosen_classes(one: Doubles, other: Doubles) -> tuple[Classes, Classes]:
    if one.shape[1] > 1:
        return one.argmax(axis=1), other.argmax(axis=1)
    inside = one.min() >= 0 and one.max() <= 1
    threshold = 0.5 if inside else 0.0
    return (one[:, 0] > threshold).astype(np.int64), (other[:, 0] > threshold).astype(np.int64)


def _refuse_labels(labels: Classes, classes: int) -> None:
    if len(labels) and int(labels.max()) >= max(classes, 2):
        raise DataError(
            f"a label is {int(labels.max())}, but the model has {max(classes, 2)} classes",
            hint="labels count from 0; do the class folders belong to this model?",
        )
