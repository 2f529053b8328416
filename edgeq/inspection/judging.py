"""From the errors of layers to what people are told of them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeq.core import fusion, kernels, reasons
from edgeq.core.graph import BITS, FLOATS, Graph, Op, present, producers
from edgeq.core.inspection import LayerError
from edgeq.core.layers import Error
from edgeq.core.matching import Match
from edgeq.core.profile import Format
from edgeq.inspection.weights import Weights

# tensorflow/lite/kernels: their output's scale is the kernel's own, such as 1/256 of a softmax
_FIXED_RANGES = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX", "L2_NORMALIZATION"})
# They put values elsewhere, whatever these are; both formats' names.
_MOVES = kernels.FUSED[16] | frozenset(
    {
        "BATCH_TO_SPACE_ND", "BROADCAST_TO", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER",
        "GATHER_ND", "RESHAPE", "REVERSE_V2", "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH",
        "SPLIT", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
        "DepthToSpace", "Dropout", "GatherND", "Identity", "ReverseSequence", "SpaceToDepth",
    }
)  # fmt: skip
_REWRITTEN_DB = 3.0  # less alike than that: the converter rewrote them


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An artifact and its float model, files and graphs.

    Attributes:
        computed: The artifact's after ``fusion.fused`` with all kinds.
        numbers: What people call each operator of the file.
    """

    format: Format
    artifact: Path
    raw: Graph
    computed: Graph
    plain_path: Path
    plain: Graph
    numbers: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Errors by the artifact's tensor.

    Attributes:
        own: With the float model's values as the operator's inputs.
        fed: Of those values once they are rounded to the inputs' types.
    """

    pair: Pair
    match: Match
    weights: Weights
    errors: Mapping[int, Error]
    own: Mapping[int, Error]
    fed: Mapping[int, Error]


def layers(measured: Measured) -> list[LayerError]:
    """One entry a tensor."""
    judge = _Judge(measured)
    return [judge.layer(number) for number in measured.errors]


def limits(raw: Graph, number: int) -> tuple[float, float] | None:
    """Least and largest value of a tensor, or of what a conversion behind it makes of it."""
    follow = (
        op.outputs[0] for op in raw.ops if op.kind in raw.conversions and op.inputs[0] == number
    )
    found = (fusion.limits(raw.tensors[one]) for one in (number, *follow))
    return next((one for one in found if one), None)


class _Judge:
    def __init__(self, measured: Measured) -> None:
        self._pair = measured.pair
        self._measured = measured
        self._producers = producers(measured.pair.computed)

    def layer(self, number: int) -> LayerError:
        error, tensor = self._measured.errors[number], self._pair.raw.tensors[number]
        place = self._producers.get(number)
        judged = self._known(number, place)
        added = self._measured.own.get(number)
        held = judged.limits
        found = reasons.findings(judged)
        return LayerError(
            tensor=tensor.name,
            float_tensor=judged.name,
            operator="input" if place is None else self._pair.computed.ops[place].kind,
            number=-1 if place is None else self._operator_number(place),
            sqnr_db=error.sqnr_db,
            own_sqnr_db=added.sqnr_db if added else None,
            own_max_abs_error=added.max_abs_error if added else None,
            weight_sqnr_db=judged.weight_db,
            max_abs_error=error.max_abs_error,
            low=error.low,
            high=error.high,
            quantized_low=held[0] if held else None,
            quantized_high=held[1] if held else None,
            clipped_share=error.clipped_share,
            p999=error.p999,
            channels=len(error.peaks),
            dead_channels=error.dead,
            lost_channels=error.lost,
            channel_spread=reasons.spread(error),
            rescaled=error.factors is not None,
            reasons=tuple(one.reason for one in found),
            advice=tuple(dict.fromkeys(advice for one in found for advice in one.advice)),
        )

    def _known(self, number: int, place: int | None) -> reasons.Layer:
        measured, tensor = self._measured, self._pair.raw.tensors[number]
        added, weight_db = measured.own.get(number), self._weight_db(place)
        own_db = None if added is None else _decibels(added)
        op = None if place is None else self._pair.computed.ops[place]
        inputs = present(op.inputs) if op else ()
        strange = weight_db is not None and own_db is not None
        return reasons.Layer(
            name=self._pair.plain.tensors[measured.match.pairs[number]].name,
            error=measured.errors[number],
            own_db=own_db,
            input_db=_least(measured.fed[one] for one in inputs if one in measured.fed),
            weight_db=None if weight_db is None or weight_db < _REWRITTEN_DB else weight_db,
            other_weights=strange and max(weight_db or 0.0, own_db or 0.0) < _REWRITTEN_DB,
            limits=limits(self._pair.raw, number),
            bits=BITS.get(tensor.dtype, 0),
            culprit=self._culprit(number),
            fixed_range=op is not None and self._has_fixed_range(op, number),
            moves=op is not None and self._moves(op, number),
        )

    def _operator_number(self, place: int) -> int:
        return self._pair.numbers[self._pair.computed.ops[place].parts[0]]

    def _has_fixed_range(self, op: Op, number: int) -> bool:
        tensors = self._pair.raw.tensors
        own = tensors[number].quantization
        shared = any(tensors[one].quantization == own for one in present(op.inputs))
        return op.kind in _FIXED_RANGES or (own is not None and shared)

    def _only_moved(self, number: int) -> bool:
        return self._moves(self._pair.computed.ops[self._producers[number]], number)

    def _moves(self, op: Op, number: int) -> bool:
        """Whether the operator leaves values as they are; not if it rounds them anew."""
        tensors, own = self._pair.raw.tensors, self._pair.raw.tensors[number].quantization
        given = (tensors[one] for one in present(op.inputs))  # shapes and indices among them
        moved = [t for t in given if not t.constant and (t.dtype in FLOATS or t.quantization)]
        return op.kind in _MOVES and any(own in (None, one.quantization) for one in moved)

    def _weight_db(self, place: int | None) -> float | None:
        """None where there are no weights, or equalization changed them."""
        errors = self._measured.errors
        other = None if place is None else self._measured.match.operators.get(place)
        if place is None or other is None:
            return None
        op = self._pair.computed.ops[place]
        around = [errors[one] for one in present(op.inputs + op.outputs) if one in errors]
        if any(error.factors is not None for error in around):
            return None
        return self._measured.weights.decibels(op, self._pair.plain.ops[other])

    def _culprit(self, number: int) -> str | None:
        """Of all operators before a tensor, the one that adds the most error."""
        waiting, seen = [number], {number}
        while waiting:
            place = self._producers.get(waiting.pop())
            inputs = self._pair.computed.ops[place].inputs if place is not None else ()
            new = [one for one in present(inputs) if one not in seen]
            seen.update(new)
            waiting.extend(new)
        seen.discard(number)
        known = [
            (error.sqnr_db, one)
            for one, error in self._measured.own.items()
            if one in seen and error.sqnr_db is not None and not self._only_moved(one)
        ]
        if not known:
            return None
        place = self._producers[min(known)[1]]
        return f"operator {self._operator_number(place)} ({self._pair.computed.ops[place].kind})"


def _least(errors: Iterable[Error]) -> float | None:
    return min((error.sqnr_db for error in errors if error.sqnr_db is not None), default=None)


def _decibels(error: Error) -> float:
    """Infinite where both are equal."""
    return math.inf if error.sqnr_db is None else error.sqnr_db
