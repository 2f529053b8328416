"""From a graph to the figures that people and machines read."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from edgeq.core import fusion, kernels
from edgeq.core.graph import (
    Graph,
    Op,
    Quantization,
    Tensor,
    computes,
    fixed,
    liveness_peak,
    parameter_count,
    present,
    readers,
)
from edgeq.core.inspection import (
    ActivationsSection,
    Inspection,
    MacsSection,
    ModelSection,
    OperatorEntry,
    OperatorKind,
    QuantizationEntry,
    Role,
    RuntimeSection,
    TensorEntry,
    WeightsEntry,
)
from edgeq.core.profile import Precision, RuntimeKind

_UNFUSED = frozenset({"basic", "disabled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The profile's runtime and precision. ``optimization``: ONNX Runtime's level."""

    profile: str
    runtime: RuntimeKind
    precision: Precision
    optimization: str


def inspection(model: ModelSection, graph: Graph, wanted: Wanted | None) -> Inspection:
    """All figures of one graph."""
    computed = as_computed(graph, wanted)
    constants = fixed(computed)
    operators = tuple(_operators(computed, constants))
    macs = [op.macs for op in graph.ops]
    peak = liveness_peak(computed)
    tensors = tuple(_tensors(graph))
    made = Inspection(
        model=model,
        inputs=tuple(_edges(graph, graph.inputs, graph.input_names)),
        outputs=tuple(_edges(graph, graph.outputs, graph.output_names)),
        parameters=parameter_count(graph),
        macs=MacsSection(
            total=None if None in macs else sum(one or 0 for one in macs),
            counted=sum(one or 0 for one in macs),
        ),
        activations=ActivationsSection(
            peak_bytes=peak.size_bytes if peak else None, operator=peak.op if peak else None
        ),
        weights=tuple(_weights(graph)),
        open_axes=graph.open_axes,
        kinds=tuple(_kinds(graph, computed, constants)),
        operators=operators,
        tensors=tensors,
        float_operators=tuple(_left_in_float(operators, graph)),
        runtime=_runtime(graph, wanted) if wanted else None,
        notes=tuple(_notes(graph, operators)),
    )
    return made.model_copy(update={"unavailable": dict(_unavailable(made, graph))})


def as_computed(graph: Graph, wanted: Wanted | None) -> Graph:
    """As the runtime puts it together."""
    fuses = wanted is None or wanted.optimization not in _UNFUSED
    return fusion.fused(graph) if fuses else graph


def quantized(graph: Graph) -> bool:
    """Whether any tensor has scales."""
    return any(tensor.quantization for tensor in graph.tensors)


def entry(tensor: Tensor, role: Role, name: str | None = None) -> TensorEntry:
    """A tensor for people and machines."""
    return TensorEntry(
        name=name or tensor.name,
        role=role,
        shape=tensor.shape,
        dtype=tensor.dtype,
        size_bytes=tensor.size_bytes,
        quantization=_quantization(tensor.quantization) if tensor.quantization else None,
    )


def _quantization(found: Quantization) -> QuantizationEntry:
    many = len(found.scales) > 1
    return QuantizationEntry(
        granularity="run-time"
        if not found.scales
        else "block"
        if found.block
        else "channel"
        if many
        else "tensor",
        scales=len(found.scales),
        axis=found.axis if many else None,
        scale_min=min(found.scales, default=None),
        scale_max=max(found.scales, default=None),
        zero_point_min=min(found.zero_points, default=None),
        zero_point_max=max(found.zero_points, default=None),
    )


def _edges(graph: Graph, numbers: tuple[int, ...], names: tuple[str, ...]) -> Iterator[TensorEntry]:
    role: Role = "input" if numbers is graph.inputs else "output"
    for number, name in zip(numbers, names, strict=True):
        yield entry(graph.tensors[number], role, name)


def _operators(graph: Graph, constants: frozenset[int]) -> Iterator[OperatorEntry]:
    for place, op in enumerate(graph.ops):
        first = next(present(op.outputs), None)
        tensor = graph.tensors[first] if first is not None else None
        yield OperatorEntry(
            number=place,
            kind=op.kind,
            output=tensor.name if tensor else op.name,
            shape=tensor.shape if tensor else None,
            dtype=tensor.dtype if tensor else "none",
            macs=op.macs,
            computes=computes(graph, op, constants),
        )


def _tensors(graph: Graph) -> Iterator[TensorEntry]:
    for number, tensor in enumerate(graph.tensors):
        yield entry(tensor, _role(graph, number, tensor))


def _role(graph: Graph, number: int, tensor: Tensor) -> Role:
    if tensor.parameter:
        return "parameter"
    if tensor.constant:
        return "constant"
    if number in graph.inputs:
        return "input"
    if number in graph.outputs:
        return "output"
    return "state" if tensor.variable else "activation"


def _weights(graph: Graph) -> Iterator[WeightsEntry]:
    """The largest first."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    for tensor in (*graph.tensors, *graph.inner):
        if not tensor.constant:
            continue
        counts[tensor.dtype] += 1
        if tensor.storage not in seen:
            sizes[tensor.dtype] += tensor.size_bytes or 0
        if tensor.storage is not None:
            seen.add(tensor.storage)
    for dtype, count in sorted(counts.items(), key=lambda item: -sizes[item[0]]):
        yield WeightsEntry(dtype=dtype, tensors=count, size_bytes=sizes[dtype])


def _kinds(graph: Graph, computed: Graph, constants: frozenset[int]) -> Iterator[OperatorKind]:
    """As they stand in the file; what they compute in is known of those that are left of it."""
    by_kind: dict[str, list[Op]] = {}
    for op in graph.ops:
        by_kind.setdefault(op.kind, []).append(op)
    left: dict[str, list[Op]] = {}
    for op in computed.ops:
        left.setdefault(op.kind, []).append(op)
    for kind, ops in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0])):
        macs = [op.macs for op in ops]
        yield OperatorKind(
            kind=kind,
            count=len(ops),
            macs=None if None in macs else sum(one or 0 for one in macs),
            computes=dict(Counter(computes(computed, op, constants) for op in left.get(kind, []))),
        )


def _left_in_float(operators: tuple[OperatorEntry, ...], graph: Graph) -> Iterator[int]:
    """Numbers of operators that compute in float although the model is quantized."""
    if quantized(graph):
        yield from (op.number for op in operators if op.computes == "float")


def _runtime(graph: Graph, wanted: Wanted) -> RuntimeSection:
    width = kernels.bits(wanted.precision)
    lacking = {
        op.kind
        for op in graph.ops
        if width is not None
        and op.builtin
        and op.kind not in graph.conversions
        and _has_floats(graph, op)
        and not kernels.has_kernel(op.kind, wanted.runtime, width)
    }
    return RuntimeSection(
        profile=wanted.profile,
        runtime=wanted.runtime,
        precision=wanted.precision,
        lacking=tuple(sorted(lacking)),
        extensions=tuple(sorted({op.kind for op in graph.ops if not op.builtin})),
    )


def _has_floats(graph: Graph, op: Op) -> bool:
    """Whether it works on numbers that quantization is about, not on shapes or truth values."""
    tensors = [graph.tensors[number] for number in present(op.inputs + op.outputs)]
    return any("float" in t.dtype or t.quantization for t in tensors)


def _notes(graph: Graph, operators: tuple[OperatorEntry, ...]) -> Iterator[str]:
    if not graph.ops:
        yield "it computes nothing"
    yield from graph.notes
    if len(operators) != len(graph.ops):
        yield (
            f"{len(graph.ops)} operators in the file, {len(operators)} once ONNX Runtime has put"
            " each operator and its QuantizeLinear and DequantizeLinear together"
        )
    if _signed_branches(graph):
        yield (
            "signed activations: on x86 processors ONNX Runtime makes them unsigned first, and then"
            " computes operators beside a branch in float; uint8 ones are all integer there"
        )
    if graph.open_axes and any(axis.startswith("axis 0 ") for axis in graph.open_axes):
        yield "the batch is open; all figures are for a batch of 1"


def _signed_branches(graph: Graph) -> bool:
    """An int8 tensor between QuantizeLinear and more than one DequantizeLinear.

    onnxruntime, qdq_transformer/qdq_s8_to_u8.cc takes pairs only; tried with 1.31.
    """
    found = readers(graph)
    for op in graph.ops:
        if op.kind == fusion.FROM_FLOAT and graph.tensors[op.outputs[0]].dtype == "int8":
            floats = [n for p in found.get(op.outputs[0], ()) for n in graph.ops[p].outputs]
            if sum(len(found.get(number, ())) for number in floats) > 1:
                return True
    return False


def _unavailable(made: Inspection, graph: Graph) -> Iterator[tuple[str, str]]:
    if made.parameters is None:
        yield "parameters", "a constant has no shape"
    if made.macs.total is None:
        kinds = sorted({op.kind for op in graph.ops if op.macs is None})
        yield "macs.total", f"not counted: {', '.join(kinds)}"
    if made.activations.peak_bytes is None:
        yield "activations.peak_bytes", "the size of a tensor is not known before it runs"
