"""Figures of merit that grow batch by batch and are the same whatever the batches were.

Scores are class scores of shape ``(samples, classes)``; a single number per sample means class 1 of
two. A model gives probabilities (all scores within 0 to 1) or logits, of which the softmax, for a
single number the sigmoid, is the probability.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.sums import ExactSum

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
ScoreKind = Literal["probabilities", "logits"]

BINS = 15
"""Of equal width, for the calibration error: Guo et al. 2017, "On Calibration of Modern Neural
Networks", section 2 and its experiments."""

TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What a model says for each sample of a batch.

    Attributes:
        chosen: The class with the highest score; of equal ones the first.
        confidence: Its probability, 0 to 1.
        right: It is the label; None without labels.
        in_top: The label is among the ``TOP`` highest, equal scores in the order of the classes;
            None without labels or with no more than ``TOP`` classes.
    """

    chosen: Classes
    confidence: Doubles
    right: Flags | None
    in_top: Flags | None


def answers(scores: Floats, labels: Classes | None, kind: ScoreKind) -> Answers:
    """Read class scores of shape ``(samples, classes)``, or ``(samples, 1)`` for two classes."""
    rows = scores.reshape(len(scores), -1).astype(np.float64)
    if rows.shape[1] == 1:
        chosen = (rows[:, 0] > (0.5 if kind == "probabilities" else 0.0)).astype(np.int64)
        one = rows[:, 0] if kind == "probabilities" else _sigmoid(rows[:, 0])
        confidence = np.maximum(one, 1 - one)
    else:
        chosen = rows.argmax(axis=1)
        shares = rows if kind == "probabilities" else _softmax(rows)
        confidence = np.take_along_axis(shares, chosen[:, None], axis=1)[:, 0]
    return Answers(
        chosen=chosen,
        # a quantized probability may be a step beyond 1
        confidence=np.clip(confidence, 0.0, 1.0),
        right=None if labels is None else chosen == labels,
        in_top=None if labels is None or rows.shape[1] <= TOP else _in_top(rows, labels),
    )


class Calibration:
    """Expected calibration error: sum over bins of their share times |accuracy - confidence|.

    Bin m of M holds confidences in ((m - 1) / M, m / M]; 0 is in the first.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.right = np.zeros(BINS, np.int64)
        self.confidence = [ExactSum() for _ in range(BINS)]

    def add(self, confidence: Doubles, right: Flags) -> None:
        """Take a batch."""
        edges = np.linspace(0, 1, BINS + 1)[1:-1]
        bins = np.searchsorted(edges, confidence, side="left")
        self.counts += np.bincount(bins, minlength=BINS)
        self.right += np.bincount(bins[right], minlength=BINS)
        for number in np.unique(bins).tolist():
            self.confidence[number].add(confidence[bins == number])

    def merge(self, other: "Calibration") -> None:
        """Take all that the other one took."""
        self.counts += other.counts
        self.right += other.right
        for mine, theirs in zip(self.confidence, other.confidence, strict=True):
            mine.merge(theirs)

    @property
    def error(self) -> float | None:
        """0 to 1; None before the first sample."""
        samples = int(self.counts.sum())
        gaps = [
            abs(int(right) - confidence.value)
            for right, confidence in zip(self.right, self.confidence, strict=True)
        ]
        return ExactSum(np.array(gaps)).value / samples if samples else None


class Tally:
    """One model's answers against labels: accuracies, confusion, calibration."""

    def __init__(self) -> None:
        self.samples = 0
        self.right = 0
        self.in_top: int | None = 0
        self.calibration = Calibration()
        self.cells: Counter[tuple[int, int]] = Counter()

    def add(self, found: Answers, labels: Classes) -> None:
        """Take a batch; ``found`` was read with the same labels."""
        if found.right is None:
            return
        self.samples += len(labels)
        self.right += int(found.right.sum())
        if found.in_top is None or self.in_top is None:
            self.in_top = None
        else:
            self.in_top += int(found.in_top.sum())
        self.calibration.add(found.confidence, found.right)
        pairs, counts = np.unique(
            np.stack([labels, found.chosen], axis=1), axis=0, return_counts=True
        )
        for (label, chosen), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self.cells[label, chosen] += count

    def merge(self, other: "Tally") -> None:
        """Take all that the other one took."""
        self.samples += other.samples
        self.right += other.right
        whole = self.in_top is not None and other.in_top is not None
        self.in_top = (self.in_top or 0) + (other.in_top or 0) if whole else None
        self.calibration.merge(other.calibration)
        self.cells.update(other.cells)

    def confusion(self, classes: int) -> npt.NDArray[np.int64]:
        """Counts of shape ``(classes, classes)``: a row a label, a column an answer."""
        matrix = np.zeros((classes, classes), np.int64)
        for (label, chosen), count in self.cells.items():
            matrix[label, chosen] = count
        return matrix

    def by_class(self) -> dict[int, tuple[int, int]]:
        """For each label that came: how many were answered right, and of how many."""
        found: dict[int, tuple[int, int]] = {}
        for (label, chosen), count in self.cells.items():
            right, samples = found.get(label, (0, 0))
            found[label] = (right + count * (label == chosen), samples + count)
        return found

    def mistakes(self) -> list[tuple[int, int, int]]:
        """Label, wrong answer and how often; the most frequent first."""
        wrong = [(label, chosen, n) for (label, chosen), n in self.cells.items() if label != chosen]
        return sorted(wrong, key=lambda item: (-item[2], item[0], item[1]))


@dataclass(slots=True, kw_only=True)
class Pairs:
    """Two models on the same samples: how often both, one or neither was right, and agreement."""

    samples: int = 0
    agreed: int = 0
    labelled: int = 0
    both_right: int = 0
    float_only: int = 0
    artifact_only: int = 0

    def add(self, one: Answers, other: Answers) -> None:
        """Take a batch of the float model's answers and the artifact's."""
        self.samples += len(one.chosen)
        self.agreed += int((one.chosen == other.chosen).sum())
        if one.right is not None and other.right is not None:
            self.labelled += len(one.right)
            self.both_right += int((one.right & other.right).sum())
            self.float_only += int((one.right & ~other.right).sum())
            self.artifact_only += int((~one.right & other.right).sum())

    def merge(self, other: "Pairs") -> None:
        """Take all that the other one took."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Distance:
    """How far one output of the artifact is from the float model's.

    With f and a their values: SQNR = 10 log10(sum f² / sum (f - a)²) dB; cosine = the mean over
    samples of (f · a) / (|f| |a|), where a vector of zeros is like another one and unlike others.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.max_abs_error = 0.0
        self.equal = True
        self.signal, self.noise, self.cosines = ExactSum(), ExactSum(), ExactSum()

    def add(self, one: Floats, other: Floats) -> None:
        """Take a batch of shape ``(samples, …)`` of the float model and of the artifact."""
        first, second = _rows(one), _rows(other)
        gaps = first - second
        self.samples += len(first)
        self.max_abs_error = max(self.max_abs_error, float(np.abs(gaps).max(initial=0.0)))
        self.equal = self.equal and not gaps.any()
        # each row by itself, so that a row's sum does not depend on the batch around it
        squares = (first**2).sum(axis=1)
        self.signal.add(squares)
        self.noise.add((gaps**2).sum(axis=1))
        self.cosines.add(_cosines(first, second, np.sqrt(squares)))

    def merge(self, other: "Distance") -> None:
        """Take all that the other one took."""
        self.samples += other.samples
        self.max_abs_error = max(self.max_abs_error, other.max_abs_error)
        self.equal = self.equal and other.equal
        self.signal.merge(other.signal)
        self.noise.merge(other.noise)
        self.cosines.merge(other.cosines)

    @property
    def sqnr_db(self) -> float | None:
        """None when the outputs are equal (it would be infinite) or the float model's all 0."""
        signal, noise = self.signal.value, self.noise.value
        return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else None

    @property
    def cosine(self) -> float | None:
        """-1 to 1; None before the first sample."""
        return self.cosines.value / self.samples if self.samples else None


def _rows(array: Floats) -> Doubles:
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float64)


def _cosines(one: Doubles, other: Doubles, lengths: Doubles) -> Doubles:
    both = lengths * np.sqrt((other**2).sum(axis=1))
    both_zero = ~one.any(axis=1) & ~other.any(axis=1)
    products = (one * other).sum(axis=1)
    cosines = np.divide(products, both, out=np.zeros_like(products), where=both > 0)
    return np.clip(np.where(both_zero, 1.0, cosines), -1.0, 1.0)


def _sigmoid(logits: Doubles) -> Doubles:
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def _softmax(rows: Doubles) -> Doubles:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    shares: Doubles = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _in_top(rows: Doubles, labels: Classes) -> Flags:
    """Fewer than ``TOP`` classes come before the label; a label that is no class is not there."""
    known = labels < rows.shape[1]
    places = np.where(known, labels, 0)[:, None]
    own = np.take_along_axis(rows, places, axis=1)
    earlier = np.arange(rows.shape[1])[None, :] < places
    before = (rows > own).sum(axis=1) + ((rows == own) & earlier).sum(axis=1)
    found: Flags = known & (before < TOP)
    return found
