"""Weights in 8 or 4 bits that are unpacked to float32, and those cut off at their best limit."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.core import clipping
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Node, links

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

_STORED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Gather"})
_SMALLEST = 64
"""Weights of fewer numbers stay: the nodes that unpack them would take more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weight:
    """A constant of float32 weights; its channels lie along ``axes``."""

    name: str
    values: Floats
    axes: tuple[int, ...]


def clipped(model: Model, bits: int) -> Model:
    """Weights cut off at the OCTAV limit of their channel."""
    from onnx import numpy_helper

    made = files.copy(model)
    constants = {item.name: item for item in made.graph.initializer}
    for weight in _weights(made, _STORED - {"Gather"}):
        rows = _rows(weight)
        limits = clipping.octav_limits(rows, bits)
        shaped = limits.reshape(_scale_shape(weight))
        constants[weight.name].CopyFrom(
            numpy_helper.from_array(np.clip(weight.values, -shaped, shaped), weight.name)
        )
    return made


def stored(model: Model, bits: Literal[4, 8], skip: Collection[str]) -> tuple[str, ...]:
    """Keep weights in few bits and unpack them once, when the model is loaded.

    Unpacking is plain arithmetic on constants, which ONNX Runtime folds; a DequantizeLinear would
    run again with every inference. Changes ``model``; gives the kinds of ops whose weights changed.
    """
    kinds = set()
    facts = links(model)
    new: list[Node] = []
    for weight in list(_weights(model, _STORED)):
        takers = facts.takers_of(weight.name)
        if weight.values.size < _SMALLEST or any(node.name in skip for node in takers):
            continue
        kinds |= {node.op_type for node in takers}
        model.graph.initializer.remove(facts.constants[weight.name])
        new += _unpacking(model, weight, bits)
    for node in reversed(new):
        model.graph.node.insert(0, node)
    return tuple(sorted(kinds))


def _unpacking(model: Model, weight: _Weight, bits: int) -> Iterator[Node]:
    """Nodes that make float32 weights, after their constants were added to the model."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(suffix: str, value: Array) -> str:
        name = f"{weight.name}_{suffix}"
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(op_type: str, inputs: list[str], suffix: str, **attributes: Any) -> Node:  # noqa: ANN401  as make_node
        name = f"{weight.name}_{suffix}" if suffix else weight.name
        return helper.make_node(op_type, inputs, [name], name=f"{name}_unpack", **attributes)

    numbers, scale = _rounded(weight, bits)
    scales = constant("scale", scale)
    if bits == 8:  # noqa: PLR2004
        packed = constant("int8", numbers)
        yield node("Cast", [packed], "whole", to=TensorProto.FLOAT)
        yield node("Mul", [f"{weight.name}_whole", scales], "")
        return
    packed = constant("int4", _in_pairs(numbers))
    sixteen, eight = (constant(str(n), np.array(n, np.float32)) for n in (16, 8))
    shape = constant("shape", np.array(numbers.shape, np.int64))
    size = constant("size", np.array([numbers.size], np.int64))
    start = constant("start", np.zeros(1, np.int64))
    at = f"{weight.name}_".__add__
    yield node("Cast", [packed], "bytes", to=TensorProto.FLOAT)
    yield node("Div", [at("bytes"), sixteen], "shifted")
    yield node("Floor", [at("shifted")], "high")
    yield node("Mul", [at("high"), sixteen], "high_part")
    yield node("Sub", [at("bytes"), at("high_part")], "low")
    yield node("Concat", [at("low"), at("high")], "both", axis=1)
    flat = constant("flat", np.array([-1], np.int64))
    yield node("Reshape", [at("both"), flat], "row")
    yield node("Slice", [at("row"), start, size], "cut")
    yield node("Reshape", [at("cut"), shape], "whole")
    yield node("Sub", [at("whole"), eight], "signed")
    yield node("Mul", [at("signed"), scales], "")


def _rounded(weight: _Weight, bits: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric whole numbers, and the scale of each channel in a shape that multiplies them."""
    largest = 2 ** (bits - 1) - 1
    limits = np.abs(_rows(weight)).max(axis=1, initial=0.0)
    scale = np.where(limits > 0, limits / largest, 1).astype(np.float32)
    shaped = scale.reshape(_scale_shape(weight))
    return np.clip(np.rint(weight.values / shaped), -largest, largest).astype(np.int8), shaped


def _in_pairs(numbers: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two numbers from -8 to 7 a byte, plus 8 each, the first in the low half; shape (bytes, 1)."""
    flat = (numbers.ravel().astype(np.int16) + 8).astype(np.uint8)
    pairs = np.append(flat, np.zeros(flat.size % 2, np.uint8)).reshape(-1, 2)
    return (pairs[:, :1] | (pairs[:, 1:] << np.uint8(4))).astype(np.uint8)


def _weights(model: Model, ops: Collection[str]) -> Iterator[_Weight]:
    facts = links(model)
    seen = set(facts.outputs)
    for node in model.graph.node:
        for place, name in enumerate(node.input if node.op_type in ops else ()):
            values = facts.value(name)
            if values is None or values.dtype != np.float32 or values.ndim < 2 or name in seen:  # noqa: PLR2004
                continue
            seen.add(name)
            yield _Weight(
                name=name, values=values.astype(np.float32), axes=_axes(node, place, values.ndim)
            )


def _axes(node: Node, place: int, rank: int) -> tuple[int, ...]:
    """Where a weight's channels lie: what one output number comes from shares a scale."""
    match node.op_type:
        case "ConvTranspose":
            return (1,)
        case "Gemm" if place == 1:
            return (0,) if _attribute(node, "transB", 0) else (1,)
        case "MatMul":
            return (rank - 1,) if place == 1 else (rank - 2,)
        case "LSTM" | "GRU" | "RNN":
            return (0, 1)
        case _:
            return (0,)


def _attribute(node: Node, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


def _rows(weight: _Weight) -> Floats:
    """Of shape (channels, weights of a channel)."""
    moved = np.moveaxis(weight.values, weight.axes, range(len(weight.axes)))
    channels = int(np.prod(moved.shape[: len(weight.axes)]))
    return moved.reshape(channels, -1)


def _scale_shape(weight: _Weight) -> tuple[int, ...]:
    return tuple(
        side if axis in weight.axes else 1 for axis, side in enumerate(weight.values.shape)
    )
