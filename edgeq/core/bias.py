"""Bias correction: what rounding the weights adds to a layer's mean output, taken off its bias.

With weights W rounded to W', a layer's output is off by (W' - W) x, and its mean by
(W' - W) E[x], whatever follows it: Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2. E[x] is the mean over real samples and over all
places of the window, as each weight of a convolution sees other elements of its input.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a convolution's kernel moves; a number for each spatial axis.

    Attributes:
        before: Zeros before the first element.
        steps: Of the output.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    steps: tuple[int, ...]


def window_means(values: Array, window: Window) -> Doubles:
    """The mean of what each place of the kernel sees, of shape (*kernel, channels).

    Args:
        values: Of shape (samples, *space, channels).
        window: See there.
    """
    places = values.shape[0] * int(np.prod(window.steps))
    total: Doubles = values.astype(np.float64).sum(axis=0)
    found: Doubles = _window_sums(total, window, 0) / places
    return found


def _window_sums(values: Doubles, window: Window, axis: int) -> Doubles:
    """Of shape (*kernel[axis:], channels), for values of shape (*space[axis:], channels)."""
    if axis == len(window.kernel):
        return values
    first = -window.before[axis] + np.arange(window.kernel[axis]) * window.dilations[axis]
    steps = np.arange(window.steps[axis]) * window.strides[axis]
    rows = []
    for places in first[:, None] + steps:
        inside = places[(places >= 0) & (places < len(values))]  # the others are zeros
        rows.append(_window_sums(values[inside].sum(axis=0), window, axis + 1))
    return np.stack(rows)


def shift(error: Doubles, means: Doubles, *, depthwise: bool) -> Doubles:
    """What the rounded weights add to the mean of each output channel.

    Args:
        error: Rounded weights less true ones, of shape (channels out, *kernel, channels in), or
            (channels out, *kernel) of a depthwise layer.
        means: From ``window_means``, or of shape (inputs,) for a dense layer.
        depthwise: Output channels o·m to o·m + m - 1 read input channel o alone.
    """
    if not depthwise:
        found: Doubles = np.tensordot(error, means, axes=means.ndim)
        return found
    each = error.shape[0] // means.shape[-1]
    own = np.repeat(np.moveaxis(means, -1, 0), each, axis=0)
    return np.asarray((error * own).reshape(len(own), -1).sum(axis=1))
