"""Sums that do not depend on the order of their terms, nor on how these came in batches."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
_MANTISSA_BITS = 53
# frexp of the least float64, 2^-1074, is 0.5 * 2^-1073: no shift below is negative.
_SHIFT = 1073 + _MANTISSA_BITS


class ExactSum:
    """A sum of float64 without rounding: each is a whole number of 2^-1126, and Python's are exact.

    Two sums of the same terms are equal bit for bit, in whatever order and batches they came.
    """

    __slots__ = ("scaled",)

    def __init__(self, values: Doubles | None = None) -> None:
        self.scaled = 0
        if values is not None:
            self.add(values)

    def add(self, values: Doubles) -> None:
        """Take finite numbers of any shape."""
        mantissas, exponents = np.frexp(values.ravel())
        whole = (mantissas * 2.0**_MANTISSA_BITS).astype(np.int64).tolist()
        shifts = (exponents.astype(np.int64) + (_SHIFT - _MANTISSA_BITS)).tolist()
        self.scaled += sum(number << shift for number, shift in zip(whole, shifts, strict=True))

    def merge(self, other: "ExactSum") -> None:
        """Take all that the other one took."""
        self.scaled += other.scaled

    @property
    def value(self) -> float:
        """The float64 nearest to the true sum."""
        return float(Fraction(self.scaled, 1 << _SHIFT))
