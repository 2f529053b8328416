"""Class scores as they come in: are they any, of which kind, and what do they say?

Whether an output is probabilities or logits, or no class scores at all, shows only in all of its
values. So each batch is read both ways, and the last one decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.core import metrics
from edgeq.core.metrics import Answers, Pairs, ScoreKind, Tally
from edgeq.core.model import TensorSpec
from edgeq.errors import DataError

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
_KINDS: tuple[ScoreKind, ...] = ("probabilities", "logits")
_SUM_SLACK = 1e-3
# An artifact alone: its probabilities are rounded to steps of 1/256, and so are their sums.
_QUANTIZED_SLACK, _QUANTIZED_SUM_SLACK = 0.01, 0.1
_SAMPLES_AXIS_AND_CLASSES = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One batch, read. ``drop``: the float model right less the artifact right, -1 to 1."""

    one: Answers | None
    other: Answers | None

    @property
    def drop(self) -> npt.NDArray[np.int8] | None:
        if not self.one or not self.other or self.one.right is None or self.other.right is None:
            return None
        return self.one.right.astype(np.int8) - self.other.right.astype(np.int8)


class _Reading:
    """Everything read as one kind of score."""

    def __init__(self) -> None:
        self.one, self.other, self.pairs = Tally(), Tally(), Pairs()

    def add(self, batch: Batch, labels: Classes | None) -> None:
        for tally, found in ((self.one, batch.one), (self.other, batch.other)):
            if found is not None and labels is not None:
                tally.add(found, labels)
        if batch.one is not None and batch.other is not None:
            self.pairs.add(batch.one, batch.other)


class ClassScores:
    """The float model's first output, the artifact's, or both, batch by batch.

    Args:
        inputs: The model's; an output of an input's size is a reconstruction, unless it is
            probabilities.
    """

    def __init__(self, inputs: Sequence[TensorSpec] = ()) -> None:
        self._inputs = tuple(inputs)
        self._readings = {kind: _Reading() for kind in _KINDS}
        self._outputs = 0
        self._shape: tuple[int, ...] = ()
        self._low, self._high = np.inf, -np.inf
        self._sums_to_one = True
        self._largest_label = -1
        self._slack = 0.0

    def add(
        self,
        one: Sequence[Floats] | None,
        other: Sequence[Floats] | None,
        labels: Classes | None,
    ) -> dict[ScoreKind, Batch]:
        """Take a batch of the float model's outputs, the artifact's, or both; it is given read.

        Raises:
            DataError: a label that the model has no class for.
        """
        reference = one if one is not None else other
        if reference is None:
            return {}
        self._look(reference, alone=one is None)
        if labels is not None and len(labels):
            self._largest_label = max(self._largest_label, int(labels.max()))
        if self._never_classes:
            return {}
        if not self._as_wide_as_an_input:
            self._refuse_labels()
        read = {
            kind: Batch(
                one=None if one is None else metrics.answers(one[0], labels, kind),
                other=None if other is None else metrics.answers(other[0], labels, kind),
            )
            for kind in _KINDS
        }
        for kind, batch in read.items():
            self._readings[kind].add(batch, labels)
        return read

    @property
    def classes(self) -> int:
        """How many; a single score means two."""
        return max(int(np.prod(self._shape[1:])), 2)

    @property
    def kind(self) -> ScoreKind:
        """What the scores are, by all values so far of the float model (else the artifact)."""
        inside = self._low >= -self._slack and self._high <= 1 + self._slack
        return "probabilities" if inside else "logits"

    @property
    def problem(self) -> str:
        """Why the outputs are no class scores; empty if they are.

        Raises:
            DataError: they are, and a label is none of the classes.
        """
        if self._never_classes:
            return self._never_classes
        if self._is_unknown_number:
            return "the output is one number outside 0 to 1, and no labels say what it means"
        probabilities = self._low >= -self._slack and self._sums_to_one
        if self._as_wide_as_an_input and not probabilities:
            return "the output has the input's size: a reconstruction, not class scores"
        self._refuse_labels()
        return ""

    @property
    def float_tally(self) -> Tally:
        return self._readings[self.kind].one

    @property
    def artifact_tally(self) -> Tally:
        return self._readings[self.kind].other

    @property
    def pairs(self) -> Pairs:
        return self._readings[self.kind].pairs

    def _look(self, outputs: Sequence[Floats], *, alone: bool) -> None:
        self._outputs, self._shape = len(outputs), outputs[0].shape
        if not outputs[0].size:
            return
        rows = outputs[0].reshape(len(outputs[0]), -1).astype(np.float64)
        self._low = min(self._low, float(rows.min()))
        self._high = max(self._high, float(rows.max()))
        self._slack = _QUANTIZED_SLACK if alone else 0.0
        slack = _QUANTIZED_SUM_SLACK if alone else _SUM_SLACK
        close = np.allclose(rows.sum(axis=1), 1, atol=slack)
        self._sums_to_one = self._sums_to_one and bool(close)

    @property
    def _never_classes(self) -> str:
        if self._outputs > 1:
            return f"the model has {self._outputs} outputs"
        shape = self._shape
        if len(shape) > _SAMPLES_AXIS_AND_CLASSES and any(side > 1 for side in shape[1:-1]):
            return "the output is no row of class scores"
        return ""

    @property
    def _is_unknown_number(self) -> bool:
        """A regression's answer as likely as a logit: agreement on its sign would prove nothing."""
        is_one = int(np.prod(self._shape[1:])) == 1
        return is_one and self.kind == "logits" and self._largest_label < 0

    @property
    def _as_wide_as_an_input(self) -> bool:
        size = int(np.prod(self._shape[1:]))
        return any(size == int(np.prod(spec.shape[1:])) > 1 for spec in self._inputs)

    def _refuse_labels(self) -> None:
        if self._largest_label >= self.classes:
            raise DataError(
                f"a label is {self._largest_label}, but the model has {self.classes} classes",
                hint="labels count from 0; do the class folders belong to this model?",
            )
