"""Multiply-accumulates of the operators that have them, for one inference.

One multiply-accumulate is one product added to a sum. Counted are convolutions, dense layers,
matrix products and recurrent layers; a bias, an activation, a pooling or an element-wise product
counts nothing. Products with the zeros of a padding count, as they do in the papers' figures. Each
function gives None where an open axis leaves the number open.
"""

from collections.abc import Iterable
from math import prod

Shape = tuple[int | None, ...] | None


def elements(shape: Shape) -> int | None:
    """How many numbers a tensor has; 1 for a scalar."""
    if shape is None or any(side is None for side in shape):
        return None
    return prod(side for side in shape if side is not None)


def convolution(output: Shape, kernel: Iterable[int | None], depth: int | None) -> int | None:
    """Each output is a sum over the kernel and the input channels of its group.

    Args:
        output: Shape of the output; strides, dilation and padding stand in it already.
        kernel: The kernel's height and width, or as many sides as it has.
        depth: Input channels by groups; 1 for a depthwise convolution.
    """
    return _product(elements(output), *kernel, depth)


def transposed(source: Shape, kernel: Iterable[int | None], depth: int | None) -> int | None:
    """Each input is spread over the kernel and the output channels of its group.

    What falls into a cropped border counts, as the kernels compute it.

    Args:
        source: Shape of the input.
        kernel: As in ``convolution``.
        depth: Output channels by groups.
    """
    return _product(elements(source), *kernel, depth)


def product(output: Shape, depth: int | None) -> int | None:
    """Dense layers and matrix products: each output is a sum of ``depth`` products."""
    return _product(elements(output), depth)


def recurrent(steps: Iterable[int | None], weights: Iterable[Shape]) -> int | None:
    """At each step every weight matrix is multiplied once: ``steps`` has batch and time."""
    sizes = [elements(shape) for shape in weights]
    if any(size is None for size in sizes):
        return None
    return _product(*steps, sum(size for size in sizes if size is not None))


def _product(*factors: int | None) -> int | None:
    return (
        None if any(one is None for one in factors) else prod(f for f in factors if f is not None)
    )
