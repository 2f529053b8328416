"""Which candidate wins on a device."""

import pytest

from edgeq.core.front import Measured, front, winner


def measured(name, p50_ms, worth=0.9, *, spread_ms=0.0, memory=None, energy=None, size=100):
    return Measured(
        name=name, p50_ms=p50_ms, spread_ms=spread_ms, worth=worth, size_bytes=size,
        peak_rss_mib=memory, energy_mj=energy,
    )  # fmt: skip


def test_the_fastest_of_the_front_wins():
    assert winner([measured("int8", 2.0), measured("float32", 1.0)]) == 1


def test_what_is_worse_in_all_is_not_on_the_front():
    found = [measured("int8", 1.0, 0.9, memory=10), measured("dynamic", 2.0, 0.8, memory=20)]
    assert front(found) == (0,)


def test_slower_but_smaller_in_memory_is_on_the_front():
    found = [measured("int8", 1.0, memory=40), measured("int16x8", 2.0, memory=30)]
    assert front(found) == (0, 1)


def test_better_answers_keep_a_slow_one_on_the_front():
    assert front([measured("int8", 1.0, 0.9), measured("float32", 2.0, 0.91)]) == (0, 1)


@pytest.mark.parametrize(("spread_ms", "expected"), [(0.0, 1), (0.5, 0)])
def test_within_the_noise_the_smaller_one_wins(spread_ms, expected):
    found = [
        measured("int8", 1.2, 0.9, spread_ms=spread_ms, size=50),
        measured("float32", 1.0, 0.9, spread_ms=spread_ms, size=200),
    ]
    assert winner(found) == expected


def test_as_fast_and_with_less_energy_wins():
    found = [measured("float32", 1.0, energy=5.0, size=10), measured("int8", 1.01, energy=3.0)]
    assert winner(found) == 1


def test_an_unknown_figure_decides_nothing():
    found = [measured("int8", 1.0, energy=None, size=50), measured("fp16", 1.0, energy=9.0)]
    assert winner(found) == 0
    assert front(found) == (0, 1)


def test_nobody_wins_where_nothing_ran():
    assert winner([]) is None
