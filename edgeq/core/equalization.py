"""Cross-layer equalization: channels between two layers get ranges of one size.

With a first layer of weights W1 (one row a channel), bias b1, an activation a with a(s x) = s a(x)
for s > 0, and a second layer of weights W2 (one column a channel), any s_c > 0 leaves the two
layers' answer as it is:

    W2 a(W1 x + b1) = (W2 S) a(S^-1 W1 x + S^-1 b1)

s_c = sqrt(r1_c / r2_c), where r is the largest absolute weight of a channel, makes both ranges
sqrt(r1_c r2_c): Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.1, equation 11. A layer in the middle of a chain belongs to two pairs, so
the pairs take turns until little changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

DEAD = 1e-3
"""A channel whose r1 r2 is under this share of the largest is dead and left alone: equalized, the
second layer's part of it would become so small that the bias beside it no longer fits 32 bits.

r1 r2 and not r1, as that is what no scaling changes: a channel that is only scaled badly counts as
alive. Where one of the two is a depthwise layer, whose weights belong to that channel alone, the
layer beyond it is counted too, so the limit is for each layer sqrt(DEAD)."""
_ROUNDS = 200
_SETTLED = 1e-3  # largest relative change of a scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A convolution or dense layer.

    Attributes:
        weights: float32.
        out_axis: Of the output channels in ``weights``.
        bias: float32 of shape (output channels,), or None.
        depthwise: Each output channel reads one input channel only.
    """

    weights: Floats
    out_axis: int
    bias: Floats | None
    depthwise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """Two layers with nothing but scale-invariant ops between them.

    Attributes:
        first: Number of a layer. ``second`` likewise.
        in_axis: Of the second layer's weights.
        owners: Which of the first layer's output channels each place along ``in_axis`` reads.
    """

    first: int
    second: int
    in_axis: int
    owners: Places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equalized:
    """Layers in the order given.

    Attributes:
        scales: For each pair its s, one a channel of the first layer; 1 where left alone.
    """

    layers: tuple[Layer, ...]
    scales: tuple[Doubles, ...]


def equalize(layers: Sequence[Layer], pairs: Sequence[Pair]) -> Equalized:
    """Scale the channels of all pairs until their ranges are equal; the input is not changed.

    A layer is the first of one pair at most, and the second of one.
    """
    absolute = [np.abs(layer.weights).astype(np.float64) for layer in layers]
    alive = _alive(layers, pairs, absolute)
    scales = [np.ones(len(channels)) for channels in alive]
    for _ in range(_ROUNDS):
        largest = 0.0
        for i, (pair, channels) in enumerate(zip(pairs, alive, strict=True)):
            first, second = absolute[pair.first], absolute[pair.second]
            out_axis = layers[pair.first].out_axis
            own = _ranges(first, out_axis)
            step = np.ones_like(own)
            np.divide(own, _read(second, pair, len(own)), out=step, where=channels)
            step = np.sqrt(step)
            _multiply(first, out_axis, 1 / step)
            _multiply(second, pair.in_axis, step[pair.owners])
            scales[i] *= step
            largest = max(largest, float(np.max(np.abs(step - 1), initial=0.0)))
        if largest < _SETTLED:
            break
    return Equalized(layers=_scaled(layers, pairs, scales), scales=tuple(scales))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Magnitude:
    """Of each channel: the product of its ranges in ``layers`` layers."""

    values: Doubles
    layers: int


def _alive(
    layers: Sequence[Layer], pairs: Sequence[Pair], absolute: Sequence[Doubles]
) -> list[npt.NDArray[np.bool_]]:
    """For each pair, which channels of its first layer are not dead."""
    into = {pair.second: pair for pair in pairs}
    out_of = {pair.first: pair for pair in pairs}

    def before(number: int) -> _Magnitude:
        """Of a layer's output channels, made by it and what is upstream of them alone."""
        own = _ranges(absolute[number], layers[number].out_axis)
        pair = into.get(number)
        if not layers[number].depthwise or pair is None:
            return _Magnitude(values=own, layers=1)
        upstream = before(pair.first)
        return _Magnitude(values=own * upstream.values[pair.owners], layers=upstream.layers + 1)

    def after(pair: Pair) -> _Magnitude:
        """Of a first layer's output channels, in what reads them."""
        count = layers[pair.first].weights.shape[layers[pair.first].out_axis]
        beyond = out_of.get(pair.second) if layers[pair.second].depthwise else None
        if beyond is None:
            return _Magnitude(values=_read(absolute[pair.second], pair, count), layers=1)
        downstream = after(beyond)
        places = _ranges(absolute[pair.second], pair.in_axis) * downstream.values
        values = _largest_by_owner(places, pair.owners, count)
        return _Magnitude(values=values, layers=downstream.layers + 1)

    found = []
    for pair in pairs:
        head, tail = before(pair.first), after(pair)
        product = head.values * tail.values
        limit = DEAD ** ((head.layers + tail.layers) / 2) * np.max(product, initial=0.0)
        found.append((product > 0) & (product >= limit))
    return found


def _read(absolute: Doubles, pair: Pair, count: int) -> Doubles:
    """Ranges of a second layer's weights by the first one's output channel."""
    return _largest_by_owner(_ranges(absolute, pair.in_axis), pair.owners, count)


def _largest_by_owner(values: Doubles, owners: Places, count: int) -> Doubles:
    found = np.zeros(count)
    np.maximum.at(found, owners, values)
    return found


def _ranges(absolute: Doubles, axis: int) -> Doubles:
    others = tuple(i for i in range(absolute.ndim) if i != axis)
    found: Doubles = np.max(absolute, axis=others, initial=0.0)
    return found


def _multiply(values: Doubles, axis: int, factors: Doubles) -> None:
    values *= factors.reshape([-1 if i == axis else 1 for i in range(values.ndim)])


def _scaled(
    layers: Sequence[Layer], pairs: Sequence[Pair], scales: Sequence[Doubles]
) -> tuple[Layer, ...]:
    """Reckoned once in float64, so each weight is rounded once."""
    weights = [layer.weights.astype(np.float64) for layer in layers]
    biases = [None if layer.bias is None else layer.bias.astype(np.float64) for layer in layers]
    for pair, scale in zip(pairs, scales, strict=True):
        _multiply(weights[pair.first], layers[pair.first].out_axis, 1 / scale)
        bias = biases[pair.first]
        if bias is not None:
            bias /= scale
        _multiply(weights[pair.second], pair.in_axis, scale[pair.owners])
    return tuple(
        Layer(
            weights=new.astype(np.float32),
            out_axis=layer.out_axis,
            bias=None if bias is None else bias.astype(np.float32),
            depthwise=layer.depthwise,
        )
        for layer, new, bias in zip(layers, weights, biases, strict=True)
    )
