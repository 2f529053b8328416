"""Intervals against published values, against what they are defined by, and by simulation."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core import drop
from edgeq.core.drop import Counts

TWO_SIDED_95 = 0.975  # each bound of a two-sided interval of 95 %


def counts(samples, losses, gains):
    return Counts(samples=samples, losses=losses, gains=gains)


# Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial
# proportions", Statistics in Medicine 33 (2014): airway hyper-responsiveness, Tango's interval.
def test_tangos_interval_has_its_published_value():
    found = drop.drop_interval(counts(21, 1, 7), TWO_SIDED_95)
    assert (found.low, found.high) == (
        pytest.approx(-0.517, abs=5e-4),
        pytest.approx(-0.026, abs=5e-4),
    )


# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17
# (1998), 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_has_its_published_values(hits, samples, low, high):
    found = drop.share_interval(hits, samples, TWO_SIDED_95)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def constrained_z(n, losses, gains, supposed):
    """The score statistic, its likeliest gain chance searched for instead of solved for."""
    free = n - losses - gains

    def likelihood(gain):
        chances = (gain + supposed, gain, 1 - 2 * gain - supposed)
        if min(chances) < 0:
            return -math.inf
        return sum(
            k * math.log(p) if p > 0 else (-math.inf if k else 0.0)
            for k, p in zip((losses, gains, free), chances, strict=True)
        )

    low, high = max(0.0, -supposed), (1 - supposed) / 2
    for _ in range(200):
        third = (high - low) / 3
        if likelihood(low + third) < likelihood(high - third):
            low += third
        else:
            high -= third
    gain = (low + high) / 2
    variance = n * (2 * gain + supposed * (1 - supposed))
    return (losses - gains - n * supposed) / math.sqrt(variance)


@given(
    n=st.integers(5, 400),
    shares=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    confidence=st.floats(0.6, 0.999),
)
def test_at_a_bound_the_drop_is_just_refused(n, shares, confidence):
    losses, gains = (int(share * n) for share in shares)
    found = drop.drop_interval(counts(n, losses, gains), confidence)
    z = NormalDist().inv_cdf(confidence)
    assert found.low <= (losses - gains) / n + 1e-12
    assert found.high >= (losses - gains) / n - 1e-12
    if found.low > -0.999:
        assert constrained_z(n, losses, gains, found.low) == pytest.approx(z, abs=1e-4)
    if found.high < 0.999:
        assert constrained_z(n, losses, gains, found.high) == pytest.approx(-z, abs=1e-4)


@given(n=st.integers(1, 1000), losses=st.integers(0, 40), gains=st.integers(0, 40))
def test_exchanging_the_models_turns_the_interval_round(n, losses, gains):
    total = n + losses + gains
    one = drop.drop_interval(counts(total, losses, gains), 0.95)
    other = drop.drop_interval(counts(total, gains, losses), 0.95)
    assert (one.low, one.high) == (
        pytest.approx(-other.high, abs=1e-9),
        pytest.approx(-other.low, abs=1e-9),
    )


@pytest.mark.parametrize("n", [1, 10, 268, 100_000])
def test_nothing_lost_is_no_proof_of_nothing(n):
    z = NormalDist().inv_cdf(0.95)
    assert drop.drop_interval(counts(n, 0, 0), 0.95).high == pytest.approx(z * z / (n + z * z))


@pytest.mark.parametrize(
    ("losses", "gains", "low", "high"), [(10, 0, None, 1.0), (0, 10, -1.0, None)]
)
def test_all_lost_or_all_gained_is_at_the_end(losses, gains, low, high):
    found = drop.drop_interval(counts(10, losses, gains), 0.95)
    assert low is None or found.low == low
    assert high is None or found.high == high


@pytest.mark.parametrize(
    ("loss", "gain", "n"), [(0.01, 0.0, 600), (0.02, 0.01, 540), (0.015, 0.005, 1000)]
)
def test_a_model_at_the_edge_of_its_budget_seldom_passes(loss, gain, n):
    """The one-sided error is what was asked for, within what a score interval is known to miss."""
    random = np.random.default_rng(5)
    drawn = random.multinomial(n, (loss, gain, 1 - loss - gain), 20_000)
    limit = loss - gain
    cache = {}
    passed = 0
    for losses, gains, _ in drawn.tolist():
        if (losses, gains) not in cache:
            high = drop.drop_interval(counts(n, losses, gains), 0.95).high
            cache[losses, gains] = high <= limit
        passed += cache[losses, gains]
    assert passed / len(drawn) <= 0.065


def test_the_fewest_samples_that_can_prove_a_drop():
    fewest = drop.samples_for_drop(0.01, 0.95)
    assert fewest == 268
    assert drop.drop_interval(counts(fewest, 0, 0), 0.95).high <= 0.01
    assert drop.drop_interval(counts(fewest - 1, 0, 0), 0.95).high > 0.01


def test_the_fewest_samples_that_can_prove_an_agreement():
    fewest = drop.samples_for_share(0.9, 0.95)
    assert drop.share_interval(fewest, fewest, 0.95).low >= 0.9
    assert drop.share_interval(fewest - 1, fewest - 1, 0.95).low < 0.9


def test_losses_at_the_same_rate_take_about_so_many_samples():
    seen = counts(540, 3, 2)
    assert drop.drop_interval(seen, 0.95).high > 0.01
    needed = drop.samples_for_drop(0.01, 0.95, seen)
    assert 540 < needed < 1200
    for times in (2, 3):
        high = drop.drop_interval(counts(540 * times, 3 * times, 2 * times), 0.95).high
        assert (high <= 0.01) == (540 * times >= needed)


def test_no_number_of_samples_proves_that_nothing_is_lost():
    assert drop.samples_for_drop(0.0, 0.95) is None
    assert drop.samples_for_drop(0.01, 0.95, counts(100, 2, 0)) is None
