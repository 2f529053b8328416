"""What training is asked for and what it answers; the epochs, whatever the framework."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.core.model import Source
from edgeq.errors import ModelError
from edgeq.qat import checkpoint
from edgeq.qat.checkpoint import Checkpoint, Epoch

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]
OnProgress = Callable[[str, int, int], None]
OnBatch = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Everything training depends on.

    Attributes:
        source: The user's model.
        input_names: The model's inputs in the order of the samples' arrays.
        training: A folder that ``stored.write`` filled, like ``kept_back``, which chooses the
            epoch, and ``calibration``, which gives the ranges of values that int8 has to hold.
        folder: Where the state after each epoch is kept, and the model is written.
        suffix: Of the model to write, such as ``.keras``.
        classes: What the labels count; None: no labels, so the model learns to give its own float
            answers in int8.
        batch: Samples to a step.
    """

    source: Source
    input_names: tuple[str, ...]
    training: Path
    kept_back: Path
    calibration: Path
    folder: Path
    suffix: str
    classes: int | None
    epochs: int
    learning_rate: float
    batch: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of it.

    Attributes:
        path: The float model with the weights of the best epoch.
        objective: What was made small, in words.
        epochs: From 0, which is before any training.
        best: Number of the epoch whose weights were kept.
        resumed_at: The last epoch of an earlier run that this one went on from; 0: none.
        check_max_abs_diff: Between the user's model and the training model without rounding.
        warnings: Plain sentences.
    """

    path: Path
    objective: str
    epochs: tuple[Epoch, ...]
    best: int
    resumed_at: int
    check_max_abs_diff: float
    tools: dict[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """On the samples kept back, int8 rounding included; ``accuracy``: None without labels."""

    loss: float
    accuracy: float | None


class Trainee(Protocol):
    """A model that learns with int8 rounding in its way."""

    def train(self, order: Places, on_batch: OnBatch) -> float:
        """One epoch over the training samples in ``order``; the mean loss.

        ``on_batch`` is told how many samples are done.
        """

    def measure(self) -> Score:
        """On the samples kept back."""

    def state(self) -> Mapping[str, Array]:
        """All that the next epoch depends on: weights, ranges, the optimizer's memory."""

    def restore(self, state: Mapping[str, Array]) -> None: ...

    def weights(self) -> Mapping[str, Array]:
        """What the model to write is made of."""


def run(
    trainee: Trainee, request: TrainRequest, count: int, on_progress: OnProgress
) -> tuple[Checkpoint, int]:
    """Train until ``request.epochs`` are done; the end, and the epoch that this run began after.

    That is the last one of an earlier run, else 0. After every epoch its state is on the disk,
    whole or not at all.

    Args:
        trainee: At its beginning.
        request: See there.
        count: Training samples.
        on_progress: Told of batches (``epoch 1 of 9``) and of each epoch's end.

    Raises:
        ModelError: the loss is no number any more.
    """
    saved = checkpoint.load(request.folder)
    if saved is None or saved.done > request.epochs:
        saved = Checkpoint(
            state=trainee.state(),
            best_weights=trainee.weights(),
            epochs=(_epoch(0, None, trainee.measure()),),
        )
    else:
        trainee.restore(saved.state)
    before = saved.done
    for number in range(before + 1, request.epochs + 1):
        saved = _next(saved, trainee, request, (number, count), on_progress)
        checkpoint.save(saved, request.folder)
    return saved, before


def _next(
    saved: Checkpoint,
    trainee: Trainee,
    request: TrainRequest,
    place: tuple[int, int],
    on_progress: OnProgress,
) -> Checkpoint:
    number, count = place
    phase = f"epoch {number} of {request.epochs}"
    on_progress(phase, 0, count)
    order = np.random.default_rng((request.seed, number)).permutation(count)
    loss = trainee.train(order, lambda done: on_progress(phase, done, count))
    score = trainee.measure()
    if not (math.isfinite(loss) and math.isfinite(score.loss)):
        raise ModelError(
            f"training failed: the loss of epoch {number} is {loss:g}",
            hint=f"a smaller step: --learning-rate {request.learning_rate / 10:g}",
        )
    epoch = _epoch(number, loss, score)
    after = Checkpoint(
        state=trainee.state(), best_weights=saved.best_weights, epochs=(*saved.epochs, epoch)
    )
    on_progress(f"{phase}: {_said(epoch)}", count, count)
    if after.best != number:
        return after
    return Checkpoint(state=after.state, best_weights=trainee.weights(), epochs=after.epochs)


def _epoch(number: int, train_loss: float | None, score: Score) -> Epoch:
    return Epoch(
        number=number,
        train_loss=train_loss,
        validation_loss=score.loss,
        validation_accuracy=score.accuracy,
    )


def _said(epoch: Epoch) -> str:
    loss = f"loss {epoch.validation_loss:.4g}"
    if epoch.validation_accuracy is None:
        return loss
    return f"accuracy {epoch.validation_accuracy:.4f}, {loss}"
