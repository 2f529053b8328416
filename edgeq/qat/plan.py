"""A model as a plain list of steps, and where int8 rounds between them; whatever the framework.

A step's kind is the Keras layer that computes the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.qat.objective import End

LINEAR = frozenset({"Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "Conv2DTranspose"})
# Their outputs are values of their inputs: on the same grid, so nothing is rounded.
_MOVING = frozenset(
    {
        "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Flatten",
        "Reshape", "Permute", "RepeatVector", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D",
        "Cropping2D", "UpSampling1D", "Dropout", "SpatialDropout1D", "SpatialDropout2D",
        "Identity",
    }
)  # fmt: skip
_BEFORE_RELU = LINEAR | {"BatchNormalization", "Add", "Subtract", "Multiply"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An input. ``shape``: without the batch axis; None: open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer of the training model.

    Attributes:
        name: Unique.
        kind: A Keras layer's class.
        options: Its arguments, without name and activation.
        sources: Names of the entries or steps that feed it, in order.
        owner: The user's layer, through its nested models; empty when it has no weights.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...]
    owner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``steps`` stand in an order in which they can be run."""

    entries: tuple[Entry, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    @property
    def ends(self) -> tuple[End, ...]:
        """What computes each output."""
        return tuple(_end(step) for step in self.makers)

    @property
    def makers(self) -> tuple[Step | None, ...]:
        """The step that computes the values of each output; None: it is an entry's."""
        return tuple(self._maker(name) for name in self.outputs)

    def _maker(self, name: str) -> Step | None:
        steps = {step.name: step for step in self.steps}
        step = steps.get(name)
        while step is not None and step.kind in _MOVING:
            step = steps.get(step.sources[0])
        return step


def rounded(plan: Plan) -> frozenset[str]:
    """Names of entries and steps whose output int8 rounds.

    A runtime computes convolution, normalization and ReLU as one op, which rounds once. What makes
    probabilities in the end is left alone, so that the loss sees small ones.
    """
    followers: dict[str, list[Step]] = {}
    for step in plan.steps:
        for source in step.sources:
            followers.setdefault(source, []).append(step)

    spared = {step.name for step in plan.makers if step and _end(step) != "values"}

    def rounds(step: Step) -> bool:
        if step.kind in _MOVING or step.name in spared:
            return False
        after = followers.get(step.name, [])
        return step.name in plan.outputs or len(after) != 1 or not _fuses(step, after[0])

    entries = (entry.name for entry in plan.entries if entry.dtype.startswith("float"))
    return frozenset((*entries, *(step.name for step in plan.steps if rounds(step))))


def weight_count(step: Step) -> int:
    """How many arrays a step with an owner has."""
    if step.kind == "BatchNormalization":
        return 2 + bool(step.options.get("center", True)) + bool(step.options.get("scale", True))
    return 1 + bool(step.options.get("use_bias", True))


def _end(step: Step | None) -> End:
    if step is None:
        return "values"
    if step.kind == "Softmax":
        return "softmax"
    return "sigmoid" if step.options.get("activation") == "sigmoid" else "values"


def _fuses(step: Step, follower: Step) -> bool:
    if follower.kind == "BatchNormalization":
        return step.kind in LINEAR
    if follower.kind == "ReLU":
        bent = follower.options.get("negative_slope") or follower.options.get("threshold")
        known = follower.options.get("max_value") in (None, 6)
        return step.kind in _BEFORE_RELU and known and not bent
    return False
