"""What ``edgeq inspect`` finds in a model, version 1; docs/inspect.md defines each figure.

A figure that is unknown is null, and ``unavailable`` says why.
"""

from typing import Annotated, Literal

from pydantic import Field

from edgeq.core.document import Part
from edgeq.core.graph import Computes
from edgeq.core.profile import Format, Precision, RuntimeKind

Shape = tuple[int | None, ...] | None
Role = Literal["input", "output", "activation", "parameter", "constant", "state"]


class ModelSection(Part):
    """The file looked into. ``source``: what the user named; ``pivot``: it was converted first."""

    source: str
    kind: str
    format: Format
    size_bytes: int
    sha256: str
    pivot: bool


class QuantizationEntry(Part):
    """real = scale * (quantized - zero point).

    Attributes:
        granularity: One scale for the tensor, one a channel, one a block of values, or found at
            run time.
        scales: How many; 0 at run time.
        axis: Of the channels.
    """

    granularity: Literal["tensor", "channel", "block", "run-time"]
    scales: int
    axis: int | None
    scale_min: float | None
    scale_max: float | None
    zero_point_min: int | None
    zero_point_max: int | None


class TensorEntry(Part):
    """``shape``: null if unknown; a null side is open."""

    name: str
    role: Role
    shape: Shape
    dtype: str
    size_bytes: int | None
    quantization: QuantizationEntry | None


class OperatorKind(Part):
    """Operators of one kind; ``computes``: in what numbers, and how many do."""

    kind: str
    count: int
    macs: int | None
    computes: dict[Computes, int]


class OperatorEntry(Part):
    """One operator in the order of execution; ``output``: its first tensor."""

    number: int
    kind: str
    output: str
    shape: Shape
    dtype: str
    macs: int | None
    computes: Computes


class WeightsEntry(Part):
    """Constants of one type as they stand in the file; bytes that several share count once."""

    dtype: str
    tensors: int
    size_bytes: int


class MacsSection(Part):
    """``total``: null where an operator's cannot be counted; ``counted``: those that can."""

    total: int | None
    counted: int


class ActivationsSection(Part):
    """``operator``: number of the one at which the most bytes live."""

    peak_bytes: int | None
    operator: int | None


class RuntimeSection(Part):
    """What the profile's runtime cannot compute in integers. ``lacking``: kinds of operators."""

    profile: str
    runtime: RuntimeKind
    precision: Precision
    lacking: tuple[str, ...]
    extensions: tuple[str, ...]


class LayerError(Part):
    """One tensor that both models have, over all samples.

    Attributes:
        sqnr_db: Null when both are equal, or the float one is all 0.
        own_sqnr_db: The same if the operator is given the float model's inputs.
        own_max_abs_error: Likewise; null when the operator could not be run by itself.
        weight_sqnr_db: Of its weights; null without quantized ones.
        low, high: Of the float tensor.
        quantized_low, quantized_high: What its type can hold.
        clipped_share: Of the float values, beyond that.
        p999: 99.9 % of the float values' magnitudes are not above it.
        rescaled: Its channels have other scales than the float model's (equalization); the error
            is reckoned with that undone.
        reasons: The likely ones.
        advice: What to try, the best first, each by itself.
    """

    tensor: str
    float_tensor: str
    operator: str
    number: int
    sqnr_db: float | None
    own_sqnr_db: float | None
    own_max_abs_error: float | None
    weight_sqnr_db: float | None
    max_abs_error: float
    low: float
    high: float
    quantized_low: float | None
    quantized_high: float | None
    clipped_share: float | None
    p999: float
    channels: int
    dead_channels: int
    lost_channels: int
    channel_spread: float | None
    rescaled: bool
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


class AgainstSection(Part):
    """The comparison with a float model. ``layers``: worst first. ``unmatched``: only here."""

    source: str
    samples: int
    data: str
    layers: tuple[LayerError, ...]
    unmatched: tuple[str, ...]


class Inspection(Part):
    """All of it. ``unavailable``: null field, why it is null."""

    schema_: Annotated[Literal["edgeq.inspection/1"], Field(alias="schema")] = "edgeq.inspection/1"
    model: ModelSection
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    parameters: int | None
    macs: MacsSection
    activations: ActivationsSection
    weights: tuple[WeightsEntry, ...]
    open_axes: tuple[str, ...]
    kinds: tuple[OperatorKind, ...]
    operators: tuple[OperatorEntry, ...]
    tensors: tuple[TensorEntry, ...]
    float_operators: tuple[int, ...]
    runtime: RuntimeSection | None = None
    against: AgainstSection | None = None
    notes: tuple[str, ...] = ()
    unavailable: dict[str, str] = Field(default={})


def dump(inspection: Inspection) -> str:
    """As indented JSON, with a newline at its end."""
    return inspection.model_dump_json(by_alias=True, indent=2) + "\n"
