"""The state of training after an epoch: one file, replaced by one rename."""

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_NAME = "checkpoint.npz"
_EPOCHS, _STATE, _BEST = "epochs", "state/", "best/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """How an epoch ended. Losses are means over samples, on rounded (int8-like) answers.

    Attributes:
        number: From 1; 0 is before any training.
        train_loss: While it trained; None for epoch 0.
        validation_accuracy: None without labels.
    """

    number: int
    train_loss: float | None
    validation_loss: float
    validation_accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """``state`` after the last epoch, ``best_weights`` of the best one."""

    state: Mapping[str, Array]
    best_weights: Mapping[str, Array]
    epochs: tuple[Epoch, ...]

    @property
    def done(self) -> int:
        """How many epochs."""
        return self.epochs[-1].number

    @property
    def best(self) -> int:
        """The trained epoch with the highest accuracy, then the smallest loss; 0: none yet."""
        trained = self.epochs[1:]
        if not trained:
            return 0
        return min(trained, key=_rank).number


def _rank(epoch: Epoch) -> tuple[float, float, int]:
    accuracy = epoch.validation_accuracy
    return (0.0 if accuracy is None else -accuracy, epoch.validation_loss, epoch.number)


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Replace what is there; at no moment is there half a file."""
    text = json.dumps([asdict(epoch) for epoch in checkpoint.epochs])
    arrays: dict[str, Any] = {_EPOCHS: np.frombuffer(text.encode(), np.uint8)}
    arrays |= {_STATE + name: array for name, array in checkpoint.state.items()}
    arrays |= {_BEST + name: array for name, array in checkpoint.best_weights.items()}
    part = folder / f"{_NAME}.part"
    with part.open("wb") as stream:
        np.savez(stream, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(folder / _NAME)
    _sync(folder)


def load(folder: Path) -> Checkpoint | None:
    """What ``save`` wrote; None where there is nothing, or it is damaged."""
    try:
        path = folder / _NAME
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            epochs = json.loads(arrays[_EPOCHS].tobytes())
            return Checkpoint(
                state=_under(_STATE, arrays),
                best_weights=_under(_BEST, arrays),
                epochs=tuple(Epoch(**epoch) for epoch in epochs),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {n.removeprefix(prefix): arrays[n] for n in arrays if n.startswith(prefix)}


def _sync(folder: Path) -> None:
    # some file systems cannot sync a folder; the rename is atomic anyhow
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
