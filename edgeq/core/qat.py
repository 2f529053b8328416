"""The report of ``edgeq qat``: int8 after training, without, and which to take.

A figure that is unknown is null, and ``unavailable`` says why.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeq.core.document import Part
from edgeq.core.drop import Counts, drop_interval

Method = Literal["ptq", "ptq-cle", "qat"]
RowName = Literal["float", "ptq", "ptq-cle", "qat-float", "qat"]
METHODS: tuple[Method, ...] = ("ptq", "ptq-cle", "qat")
"""From the one that costs least to the one that costs most."""
ROWS: tuple[RowName, ...] = ("float", "ptq", "ptq-cle", "qat-float", "qat")
CONFIDENCE = 0.95
SQNR_STEP_DB = 0.5
"""A difference that is worth more than rounding's luck."""
Right = npt.NDArray[np.bool_]


class ModelSection(Part):
    """The user's model. ``source``: its format, such as keras-h5."""

    name: str
    sha256: str
    size_bytes: int
    source: str


class EvaluationSection(Part):
    """What the rows were measured on.

    Attributes:
        origin: What the user named.
        chose_epoch: They also chose the epoch, so that QAT's figures are a little too good.
    """

    origin: str
    samples: int
    labelled: bool
    chose_epoch: bool


class EpochSection(Part):
    """Losses are means over samples; ``validation``: on samples kept back, with int8 rounding.

    Attributes:
        train_loss: Null for epoch 0, which is before any training.
        validation_accuracy: Null without labels.
    """

    number: int
    train_loss: float | None
    validation_loss: float
    validation_accuracy: float | None


class TrainingSection(Part):
    """How it was trained.

    Attributes:
        objective: What was made small, in words.
        kept_back: Samples that chose the epoch.
        best_epoch: Whose weights were kept.
        resumed_at: The last epoch of an earlier run that this one went on from; 0: none.
    """

    objective: str
    origin: str
    samples: int
    kept_back: int
    calibration_samples: int
    batch: int
    learning_rate: float
    seed: int
    best_epoch: int
    resumed_at: int
    epochs: tuple[EpochSection, ...]
    tools: dict[str, str]


class Row(Part):
    """One model on the evaluation samples, against the user's float model.

    Attributes:
        accuracy_drop: The float model's accuracy less this one's.
        agreement: Share of samples for which both choose the same class.
        size_bytes: Of the pivot for a float model, of the artifact for int8.
        unavailable: Why figures are null, by field; ``all`` where there is no such model.
    """

    name: RowName
    accuracy: float | None = None
    accuracy_drop: float | None = None
    agreement: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    size_bytes: int | None = None
    unavailable: dict[str, str] = Field(default_factory=dict)


class QatReport(Part):
    """All of it.

    Attributes:
        own_sqnr_db: The trained model's int8 against its own float: what rounding still costs.
        best: What to take; null where nothing tells them apart.
        advice: The same in a sentence, with the reason.
    """

    schema_: Literal["edgeq.qat/1"] = Field(default="edgeq.qat/1", alias="schema")
    created: str
    model: ModelSection
    profile: str
    format: str
    training: TrainingSection
    evaluation: EvaluationSection
    rows: tuple[Row, ...]
    own_sqnr_db: float | None
    best: Method
    advice: str
    warnings: tuple[str, ...] = ()


def dump(report: QatReport) -> str:
    """Indented JSON with a newline at its end."""
    return report.model_dump_json(by_alias=True, indent=2) + "\n"


def best_by_answers(right: Mapping[Method, Right]) -> Method:
    """The cheapest method that none is proved better than.

    Args:
        right: Which samples each method answers right, or as the float model does; at least one.
    """
    found = [method for method in METHODS if method in right]
    chosen = found[0]
    for other in found[1:]:
        if _proved_better(right[other], right[chosen]):
            chosen = other
    return chosen


def best_by_noise(ratios_db: Mapping[Method, float | None]) -> Method:
    """The cheapest method that none beats by ``SQNR_STEP_DB``.

    Args:
        ratios_db: Of each method, one at least; None: its answers are the float model's.
    """
    sqnr_db = {method: math.inf if r is None else r for method, r in ratios_db.items()}
    found = [method for method in METHODS if method in sqnr_db]
    chosen = found[0]
    for other in found[1:]:
        if sqnr_db[other] > sqnr_db[chosen] + SQNR_STEP_DB:
            chosen = other
    return chosen


def _proved_better(one: Right, other: Right) -> bool:
    counts = Counts(
        samples=len(one),
        losses=int(np.sum(other & ~one)),
        gains=int(np.sum(one & ~other)),
    )
    return drop_interval(counts, CONFIDENCE).high < 0


def advise(best: Method, rows: Sequence[Row], samples: int) -> str:
    """Which model to take, and why."""
    by_name = {row.name: row for row in rows}
    figures = ", ".join(
        f"{_WORDS[method]} {_figure(by_name[method])}" for method in METHODS if method in by_name
    )
    on = f"on {samples} samples: {figures}"
    match best:
        case "ptq":
            return f"plain int8 (PTQ), as nothing is measurably better {on}"
        case "ptq-cle":
            return f"int8 with cross-layer equalization (--equalize): it is the best {on}"
        case "qat":
            return f"the trained model (QAT): it is the best {on}"


_WORDS: dict[Method, str] = {"ptq": "PTQ", "ptq-cle": "PTQ + CLE", "qat": "QAT"}


def _figure(row: Row) -> str:
    if row.accuracy is not None:
        return f"accuracy {row.accuracy:.4f}"
    if row.agreement is not None:
        return f"agreement {row.agreement:.4f}"
    return "n/a" if row.sqnr_db is None else f"SQNR {row.sqnr_db:.1f} dB"
