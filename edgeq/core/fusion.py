"""A graph with QuantizeLinear and DequantizeLinear between its operators, as it is computed.

ONNX Runtime (graph optimization ``extended`` or ``all``) makes one integer operator of the group
DequantizeLinear, operator, QuantizeLinear; the float tensors between them never exist. The rules
are those of ``optimizer/qdq_transformer/selectors_actions/qdq_selectors.cc``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeq.core import kernels
from edgeq.core.graph import FLOATS, Graph, Op, Tensor, present, producers, readers

TO_FLOAT, FROM_FLOAT = "DequantizeLinear", "QuantizeLinear"
_WIDTHS: dict[str, kernels.Bits] = {"int8": 8, "uint8": 8, "int16": 16, "uint16": 16}
RANGES = {
    "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535),
    "int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "int32": (-(1 << 31), (1 << 31) - 1),
}  # fmt: skip
_ALSO_TO_FLOAT = frozenset({"MatMul", "Gemm", "ArgMax"})
_WEIGHTED = frozenset({"Conv", "MatMul", "Gemm"})
_CUTTING = frozenset({"Relu", "Clip"})
# They move values without looking at them, so both sides must mean the same.
_MOVING = kernels.FUSED[16] | {"MaxPool", "ReduceMax", "ReduceMin", "Resize"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """``taken``: places of the QuantizeLinear and cutting operators that it swallows."""

    op: Op
    taken: tuple[int, ...]


def fused(graph: Graph, *, all_kinds: bool = False) -> Graph:
    """The graph with every group that becomes one operator put together; others stay.

    Args:
        graph: As it stands in the file.
        all_kinds: Put groups together too that a runtime computes in float; their answers are
            the same.
    """
    if not any(op.kind == TO_FLOAT for op in graph.ops):
        return graph
    finder = _Finder(graph, all_kinds=all_kinds)
    groups = {place: group for place in range(len(graph.ops)) if (group := finder.group(place))}
    swallowed = {place for group in groups.values() for place in group.taken}
    left = [
        groups[place].op if place in groups else op
        for place, op in enumerate(graph.ops)
        if place not in swallowed
    ]
    needed = {number for op in left for number in present(op.inputs)} | set(graph.outputs)
    kept = (op for op in left if op.kind != TO_FLOAT or needed & set(op.outputs))
    return replace(graph, ops=tuple(kept))


def limits(tensor: Tensor) -> tuple[float, float] | None:
    """Least and largest real value of a tensor with one scale; None for any other."""
    found = tensor.quantization
    if found is None or len(found.scales) != 1 or tensor.dtype not in RANGES:
        return None
    low, high = RANGES[tensor.dtype]
    scale, zero_point = found.scales[0], found.zero_points[0]
    return scale * (low - zero_point), scale * (high - zero_point)


class _Finder:
    def __init__(self, graph: Graph, *, all_kinds: bool) -> None:
        self._graph = graph
        self._all_kinds = all_kinds
        self._producers = producers(graph)
        self._readers = readers(graph)

    def group(self, place: int) -> _Group | None:
        """The group around an operator; None when it stays as it is."""
        op = self._graph.ops[place]
        known = self._all_kinds or op.kind in kernels.FUSED[8] | _CUTTING
        # a graph inside names the float tensors themselves
        if not known or op.nested or op.kind in self._graph.conversions:
            return None
        inputs = [self._packed(number) for number in op.inputs]
        if None in inputs and not self._all_kinds:
            return None
        numbers = tuple(
            old if new is None else new for old, new in zip(op.inputs, inputs, strict=True)
        )
        changed = [new for old, new in zip(op.inputs, numbers, strict=True) if old != new]
        outputs = [self._packed_output(number) for number in op.outputs]
        fits = self._all_kinds or (changed and self._types_fit(op, changed, outputs))
        if not fits or not (changed or any(outputs)):
            return None
        new = [old if out is None else out[0] for old, out in zip(op.outputs, outputs, strict=True)]
        taken = tuple(place for out in outputs if out for place in out[1])
        parts = (*op.parts, *(part for p in taken for part in self._graph.ops[p].parts))
        made = replace(op, inputs=numbers, outputs=tuple(new), parts=parts)
        return _Group(op=made, taken=taken)

    def _packed(self, number: int) -> int | None:
        """The integer tensor behind an input; itself if it is none of the data; None: float."""
        if number < 0:
            return number
        tensor = self._graph.tensors[number]
        if tensor.dtype not in FLOATS or (tensor.constant and not tensor.parameter):
            return number
        source = self._producers.get(number)
        if source is None or self._graph.ops[source].kind != TO_FLOAT:
            return None
        return self._graph.ops[source].inputs[0]

    def _packed_output(self, number: int) -> tuple[int, tuple[int, ...]] | None:
        """The integer tensor that an output becomes, and the operators on the way; None: none."""
        way: tuple[int, ...] = ()
        while number not in self._graph.outputs:
            found = self._readers.get(number, [])
            if len(found) != 1:
                return None
            op, way = self._graph.ops[found[0]], (*way, found[0])
            if op.kind == FROM_FLOAT and op.inputs[0] == number:
                result = op.outputs[0]
                cuts = [self._graph.ops[place] for place in way[:-1]]
                return (result, way) if all(self._is_void(cut, result) for cut in cuts) else None
            if op.kind not in _CUTTING or len(way) > 1 or op.inputs[0] != number:
                return None
            number = op.outputs[0]
        return None

    def _is_void(self, cut: Op, result: int) -> bool:
        """Whether a Relu or Clip cuts nothing that the quantized range holds."""
        held = limits(self._graph.tensors[result])
        if held is None:
            return False
        low, high = (0.0, None) if cut.kind == "Relu" else self._bounds(cut)
        slack = 1e-6 * max(abs(held[0]), abs(held[1]))
        return (low is None or held[0] >= low - slack) and (high is None or held[1] <= high + slack)

    def _bounds(self, cut: Op) -> tuple[float | None, float | None]:
        values = [self._graph.tensors[n].value if n >= 0 else None for n in cut.inputs[1:3]]
        values += [None] * (2 - len(values))
        return values[0], values[1]

    def _types_fit(
        self, op: Op, inputs: Sequence[int], outputs: Sequence[tuple[int, tuple[int, ...]] | None]
    ) -> bool:
        tensors = self._graph.tensors
        source = tensors[inputs[0]]
        results = [tensors[out[0]] for out in outputs if out]
        if len(results) < len(op.outputs) and op.kind not in _ALSO_TO_FLOAT:
            return False
        width = _WIDTHS.get(source.dtype)
        if width is None or (op.kind not in kernels.FUSED[width] and op.kind not in _CUTTING):
            return False
        if any(result.dtype != source.dtype for result in results):
            return False
        others = [tensors[number].dtype for number in inputs[1:]]
        if op.kind in _WEIGHTED:
            return all(dtype in ("int8", "uint8", "int32") for dtype in others)
        if op.kind in _CUTTING:
            return self._is_void(op, next(out[0] for out in outputs if out))
        same = op.kind not in _MOVING or all(
            result.quantization == source.quantization for result in results
        )
        return same and all(dtype == source.dtype for dtype in others)
