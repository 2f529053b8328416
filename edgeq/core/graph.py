"""A model's graph, whatever its format, and what follows from it alone.

Tensors have numbers, their places in ``Graph.tensors``; operators stand in the order of execution.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from edgeq.core.macs import Shape, elements

Computes = Literal["float", "integer", "hybrid", "conversion", "other"]
"""``hybrid``: float activations with integer weights, quantized at run time. ``conversion``: only
changes a tensor's type. ``other``: whole numbers that are no quantized values, such as shapes."""

ABSENT = -1
BITS = {
    "int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4": 4, "int8": 8, "uint8": 8, "bool": 8,
    "float8": 8, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16, "int32": 32,
    "uint32": 32, "float32": 32, "int64": 64, "uint64": 64, "float64": 64, "complex64": 64,
    "complex128": 128,
}  # fmt: skip
FLOATS = frozenset({"float32", "float64", "float16", "bfloat16", "float8"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """real = scale * (quantized - zero point).

    Attributes:
        scales: One for the tensor, one a channel, or one a block.
        zero_points: As many, or one for all.
        axis: Of the channels; None: one scale for the tensor.
        block: Values in a row that share a scale; None: no blocks.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    block: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor.

    Attributes:
        shape: None: unknown; a side that is None is open.
        dtype: NumPy's name, or ``int4``, ``bfloat16`` and such.
        constant: Its values stand in the file.
        parameter: A constant that training found: weights, biases, tables; not shapes, axes,
            paddings, scales and zero points.
        storage: Constants of one number share their bytes in the file; None: not stored.
        variable: State that lives from one inference to the next.
        value: Of a constant with one number.
    """

    name: str
    shape: Shape
    dtype: str
    constant: bool = False
    parameter: bool = False
    storage: int | None = None
    variable: bool = False
    quantization: Quantization | None = None
    value: float | None = None

    @property
    def size_bytes(self) -> int | None:
        """Of its values; None where the shape is open or the type has no fixed size."""
        count, bits = elements(self.shape), BITS.get(self.dtype)
        return None if count is None or bits is None else (count * bits + 7) // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator.

    Attributes:
        inputs: Numbers of tensors; ``ABSENT`` for one that is left out. Behind a node's own stand
            those that the graphs inside it take from outside.
        macs: Multiply-accumulates; 0 where it has none; None where they cannot be counted.
        builtin: The format's own; False: an extension that a runtime may lack.
        parts: Places in the file's list of operators that it was fused from.
        nested: It runs graphs inside it, which may name its inputs.
    """

    kind: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int | None = 0
    builtin: bool = True
    parts: tuple[int, ...] = ()
    nested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The main graph of a model.

    Attributes:
        inner: Constants of the graphs inside it (branches, loops).
        open_axes: Of the inputs.
        notes: What the figures leave out, in plain sentences.
        conversions: Kinds of operators that only change a tensor's type.
    """

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    inner: tuple[Tensor, ...] = ()
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    open_axes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    conversions: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """``op``: at whose run the most bytes live; None: while only the inputs do."""

    size_bytes: int
    op: int | None


def present(numbers: tuple[int, ...]) -> Iterator[int]:
    """Without those that are left out."""
    return (number for number in numbers if number != ABSENT)


def fixed(graph: Graph) -> frozenset[int]:
    """Constants, and what is computed from constants only, which a runtime does once."""
    known = {number for number, tensor in enumerate(graph.tensors) if tensor.constant}
    for op in graph.ops:
        needs = list(present(op.inputs))
        if needs and all(number in known for number in needs):
            known.update(present(op.outputs))
    return frozenset(known)


def producers(graph: Graph) -> dict[int, int]:
    """Place of the operator that writes each tensor."""
    return {n: place for place, op in enumerate(graph.ops) for n in present(op.outputs)}


def readers(graph: Graph) -> dict[int, list[int]]:
    """Places of the operators that read each tensor."""
    found: dict[int, list[int]] = {}
    for place, op in enumerate(graph.ops):
        for number in dict.fromkeys(present(op.inputs)):
            found.setdefault(number, []).append(place)
    return found


def parameter_count(graph: Graph) -> int | None:
    """Elements of all parameters; a tensor counts once, however many operators read it.

    Those of inner graphs count too, unless they share their bytes with one that counts already.
    """
    found = [tensor for tensor in graph.tensors if tensor.parameter]
    seen = {tensor.storage for tensor in found}
    for tensor in graph.inner:
        if tensor.parameter and tensor.storage not in seen:
            seen.add(tensor.storage)
            found.append(tensor)
    counts = [elements(tensor.shape) for tensor in found]
    return None if None in counts else sum(count for count in counts if count is not None)


def liveness_peak(graph: Graph) -> Peak | None:
    """The most bytes of activations that live at one time.

    A tensor lives from the operator that writes it (an input of the model: from the start) to the
    last one that reads it (an output: to the end); state lives all the time. An operator's inputs
    and outputs live side by side. Constants do not count. Whoever plans the memory needs at least
    this, unless an operator may write over its own input. None: a size is not known.
    """
    lives = _lives(graph)
    sizes = {number: graph.tensors[number].size_bytes for number in lives}
    if any(size is None for size in sizes.values()):
        return None
    steps = len(graph.ops)
    change = [0] * (steps + 2)
    for number, (first, last) in lives.items():
        size = sizes[number] or 0
        change[first + 1] += size
        change[last + 2] -= size
    used, peak = 0, Peak(size_bytes=0, op=None)
    for step in range(steps + 1):
        used += change[step]
        if used > peak.size_bytes:
            peak = Peak(size_bytes=used, op=step - 1 if step else None)
    return peak


def _lives(graph: Graph) -> dict[int, tuple[int, int]]:
    """First and last step of each activation; -1 is before the first operator."""
    constants = fixed(graph)
    last = len(graph.ops) - 1
    lives: dict[int, tuple[int, int]] = {
        number: (-1, -1) for number in graph.inputs if number not in constants
    }
    for step, op in enumerate(graph.ops):
        for number in present(op.inputs + op.outputs):
            if number not in constants:
                lives[number] = (lives.get(number, (step, step))[0], step)
    for number in lives:
        if graph.tensors[number].variable:
            lives[number] = (-1, last)
        elif number in graph.outputs:
            lives[number] = (lives[number][0], last)
    return lives


def computes(graph: Graph, op: Op, constants: frozenset[int]) -> Computes:
    """In what kind of numbers an operator computes."""
    if op.kind in graph.conversions:
        return "conversion"
    numbers = list(present(op.inputs + op.outputs))
    moving = [graph.tensors[n] for n in numbers if n not in constants]
    given = [graph.tensors[n] for n in present(op.inputs) if n not in constants]
    if given and all(tensor.quantization and tensor.dtype not in FLOATS for tensor in given):
        return "integer"  # its result may be float, as QGemm's
    weights = [graph.tensors[n] for n in present(op.inputs) if n in constants]
    if any(tensor.dtype in FLOATS for tensor in moving):
        packed = any(tensor.quantization and tensor.dtype not in FLOATS for tensor in weights)
        return "hybrid" if packed else "float"
    return "integer" if any(tensor.quantization for tensor in moving) else "other"
