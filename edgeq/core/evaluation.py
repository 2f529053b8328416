"""The evaluation, version 1: what a float model and an artifact answer on labelled data.

A field that is unknown is null, and ``unavailable`` says why. Accuracies, agreement and calibration
errors are shares from 0 to 1.
"""

from typing import Annotated, Literal

from pydantic import Field

from edgeq.core.document import Part
from edgeq.core.report import Gate, Interval


class FloatSection(Part):
    """The float model. ``source``: its format, such as keras-h5. ``ran_on``: a device's name."""

    name: str
    source: str
    sha256: str
    size_bytes: int
    ran_on: str


class QuantizedSection(Part):
    """The artifact. ``format``: tflite or onnx."""

    name: str
    format: str
    sha256: str
    size_bytes: int
    ran_on: str


class DataSection(Part):
    """``classes``: how many the model has; null where its output is no row of class scores."""

    name: str
    sha256: str
    samples: int
    labelled: bool
    classes: int | None = None
    class_names: tuple[str, ...] = ()


class ClassSection(Part):
    """Of the samples of one class, the share answered right (its recall)."""

    label: int
    name: str | None
    samples: int
    float_accuracy: float | None
    artifact_accuracy: float | None


class Mistake(Part):
    """A class that is taken for another one."""

    label: int
    answer: int
    samples: int


class ScoresSection(Part):
    """One model against the labels.

    Attributes:
        ece: Expected calibration error, 15 bins of equal width (Guo et al. 2017).
        confusion: A row for each label, a column for each answer; null beyond 1000 classes.
        mistakes: The most frequent ones.
    """

    top1_accuracy: float
    top1_ci: Interval
    top5_accuracy: float | None
    ece: float | None
    confusion: tuple[tuple[int, ...], ...] | None
    mistakes: tuple[Mistake, ...]


class OutputSection(Part):
    """One output of the artifact against the float model's."""

    name: str
    sqnr_db: float | None
    cosine: float | None
    max_abs_error: float


class ComparisonSection(Part):
    """The artifact against the float model; ``sqnr_db`` and ``cosine`` are the worst output's.

    Attributes:
        accuracy_drop: Float accuracy less the artifact's.
        drop_ci: 95 %, from the same samples of both (Tango 1998).
        lost: Samples that only the float model answers right; ``gained``: only the artifact.
    """

    agreement: float | None
    agreement_ci: Interval | None
    accuracy_drop: float | None
    drop_ci: Interval | None
    lost: int | None
    gained: int | None
    sqnr_db: float | None
    cosine: float | None
    max_abs_error: float
    outputs: tuple[OutputSection, ...]


class MetricSection(Part):
    """A metric of the user's; a value is null where that model was not given."""

    name: str
    float_value: float | None
    artifact_value: float | None


class CorruptionSection(Part):
    """The same data under one corruption at one strength.

    Attributes:
        severity: 1 to 5.
        parameter: What ``value`` is; see ``edgeq.core.corruptions``.
        extra_drop: How much larger the drop is than on clean data.
        extra_drop_p: Chance of as many samples that turn against the artifact, if the corruption
            did nothing to the drop: a one-sided sign test.
        significant: The drop is larger than on clean data beyond chance: ``extra_drop_p`` under
            0.05 after Holm's correction for the number of corruptions.
    """

    name: str
    severity: int
    parameter: str
    value: float
    float_accuracy: float | None
    artifact_accuracy: float | None
    accuracy_drop: float | None
    drop_ci: Interval | None
    extra_drop: float | None
    extra_drop_p: float | None
    significant: bool | None
    float_ece: float | None
    artifact_ece: float | None
    agreement: float | None
    sqnr_db: float | None


class NotApplied(Part):
    """A corruption that does not apply to this data, and why."""

    name: str
    reason: str


class Evaluation(Part):
    """All of it. ``unavailable``: null field, why it is null.

    Attributes:
        scores: What the class scores are: probabilities, or logits.
    """

    schema_: Annotated[Literal["edgeq.evaluation/1"], Field(alias="schema")] = "edgeq.evaluation/1"
    float_model: FloatSection | None
    artifact: QuantizedSection | None
    data: DataSection
    scores: Literal["probabilities", "logits"] | None
    float_scores: ScoresSection | None
    artifact_scores: ScoresSection | None
    classes: tuple[ClassSection, ...] = ()
    comparison: ComparisonSection | None
    metrics: tuple[MetricSection, ...] = ()
    corruptions: tuple[CorruptionSection, ...] = ()
    not_applied: tuple[NotApplied, ...] = ()
    gates: tuple[Gate, ...] = ()
    warnings: tuple[str, ...] = ()
    unavailable: dict[str, str] = Field(default={})


def dump(evaluation: Evaluation) -> str:
    """As JSON in one line, with a newline at its end; never NaN or infinity."""
    return evaluation.model_dump_json(by_alias=True) + "\n"
