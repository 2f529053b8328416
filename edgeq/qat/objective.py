"""What a model is trained to, whatever the framework: labels, or its own float answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
End = Literal["softmax", "sigmoid", "values"]
Loss = Literal["softmax", "sigmoid", "scores", "score", "values"]
"""With p or x the output and t the target, for one sample:

* softmax: cross-entropy of probabilities, -sum t log p
* sigmoid: the mean of -t log p - (1 - t) log(1 - p)
* scores: cross-entropy of softmax(x);  score: as sigmoid, of sigmoid(x)
* values: mean (x - t)² over the mean t² of all samples, which is 1 / SQNR
"""
LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """``losses``: one for each output; their sum is made small. ``words``: for people."""

    words: str
    losses: tuple[Loss, ...]
    has_labels: bool


def choose(ends: Sequence[End], widths: Sequence[int], classes: int | None) -> Objective:
    """The loss that goes with how the outputs end.

    Args:
        ends: What computes each output.
        widths: Numbers in each output, for one sample.
        classes: What the labels count; None without labels.
    """
    if classes is None:
        own: tuple[Loss, ...] = tuple(ends)
        return Objective(words="the float model's own answers", losses=own, has_labels=False)
    end, width = ends[0], widths[0]
    if end == "values":
        loss: Loss = "score" if width == 1 else "scores"
    else:
        loss = "sigmoid" if width == 1 else end
    kind = "binary" if loss in ("score", "sigmoid") else "categorical"
    of = " of logits" if loss in ("score", "scores") else ""
    return Objective(words=f"labels, {kind} cross-entropy{of}", losses=(loss,), has_labels=True)


def label_rows(labels: Labels, width: int) -> Floats:
    """Targets of shape (samples, width): a single 1 in each row, or the label itself."""
    if width == 1:
        return labels.astype(np.float32).reshape(-1, 1)
    rows = np.zeros((len(labels), width), np.float32)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def right(outputs: Floats, labels: Labels, loss: Loss) -> npt.NDArray[np.bool_]:
    """Which samples' answers, of shape (samples, width), are their labels."""
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(axis=1) == labels)
    threshold = 0.0 if loss == "score" else 0.5
    return np.asarray((outputs[:, 0] > threshold) == (labels == 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What the answers to some samples should be: ``labels``, or ``outputs`` as rows of numbers.

    Attributes:
        widths: Numbers to a row, for each output.
    """

    widths: tuple[int, ...]
    labels: Labels | None = None
    outputs: tuple[Floats, ...] = ()

    def rows(self, places: Places) -> list[Floats]:
        """Of some samples: one array of shape (samples, width) for each output."""
        if self.labels is not None:
            return [label_rows(self.labels[places], self.widths[0])]
        return [array[places] for array in self.outputs]

    def divisors(self, losses: Sequence[Loss]) -> tuple[float, ...]:
        """What each output's loss is divided by: the mean square for ``values``, else 1."""
        if self.labels is not None:
            return (1.0,)
        squares = (float(np.mean(np.square(array, dtype=np.float64))) for array in self.outputs)
        return tuple(
            (square or 1.0) if loss == "values" else 1.0
            for loss, square in zip(losses, squares, strict=True)
        )

    def accuracy(self, outputs: Sequence[Floats], losses: Sequence[Loss]) -> float | None:
        """Share of samples whose answer is the label; None without labels."""
        if self.labels is None:
            return None
        return float(np.mean(right(outputs[0], self.labels, losses[0])))
