import numpy as np
import pytest

from edgeq.core import clipping


def error(row, limit, bits):
    """Mean square of what quantizing at a limit changes."""
    scale = limit / (2 ** (bits - 1) - 1)
    whole = np.clip(np.rint(row / scale), -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    return float(np.mean((row - whole * scale) ** 2))


@pytest.mark.parametrize("bits", [3, 4])
def test_the_limit_is_close_to_the_best_one_found_by_trying_all(bits):
    row = np.random.default_rng(3).laplace(size=20_000).astype(np.float32)
    (limit,) = clipping.octav_limits(row[None], bits)
    tries = np.linspace(0.05, 1, 200) * np.abs(row).max()
    best = min(error(row, one, bits) for one in tries)
    assert error(row, float(limit), bits) < 1.05 * best
    assert limit < np.abs(row).max()


def test_each_channel_has_its_own_limit_and_zeros_have_none():
    rows = np.array([[1, -2, 3, -4], [0, 0, 0, 0], [0.1, 0.2, -0.3, 0.4]], np.float32)
    limits = clipping.octav_limits(rows, 8)
    assert limits.shape == (3,)
    assert limits[1] == 0
    assert limits[0] == pytest.approx(10 * limits[2], rel=1e-5)
    assert (limits <= np.abs(rows).max(axis=1)).all()
