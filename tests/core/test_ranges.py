import numpy as np
import pytest

from edgeq.core.ranges import BINS, Range, Seen, counted, cut


def seen(values):
    values = np.asarray(values, np.float32)
    span = Range(low=float(values.min()), high=float(values.max()))
    return Seen(range=span, counts=counted(values, span).astype(float))


def noise(values, span):
    """Mean square of what int8 with this range changes."""
    step = (span.high - span.low) / 255
    zero = np.rint(-span.low / step)
    whole = np.clip(np.rint(values / step) + zero, 0, 255)
    return float(np.mean((values - (whole - zero) * step) ** 2))


def test_minmax_cuts_nothing():
    assert cut(seen([-3, 1, 2]), "minmax") == Range(low=-3, high=2)


def test_zero_is_always_inside():
    assert cut(seen([2, 3, 5]), "minmax") == Range(low=0, high=5)
    assert cut(seen([-5, -3]), "error").high == 0


def test_all_values_are_counted_in_equal_parts():
    values = np.linspace(0, 1, 10 * BINS, endpoint=False).astype(np.float32)
    counts = counted(values, Range(low=0.0, high=1.0))
    assert counts.sum() == values.size
    assert counts.min() >= 8
    assert counted(np.full(7, 2.0, np.float32), Range(low=2.0, high=2.0)).sum() == 7


def test_a_share_of_the_values_goes_at_each_end():
    values = np.random.default_rng(1).normal(0, 1, 200_000)
    span = cut(seen(values), "0.01%")
    low, high = np.quantile(values, [1e-4, 1 - 1e-4])
    assert span.low == pytest.approx(low, abs=0.05)
    assert span.high == pytest.approx(high, abs=0.05)


def test_a_relus_zeros_stay():
    values = np.maximum(np.random.default_rng(1).normal(0, 1, 10_000), 0)
    assert cut(seen(values), "0.01%").low == 0


def test_the_least_error_is_less_than_without_cutting():
    values = np.random.default_rng(2).laplace(0, 1, 100_000)
    spans = {rule: cut(seen(values), rule) for rule in ("minmax", "error")}
    assert noise(values, spans["error"]) < 0.9 * noise(values, spans["minmax"])
