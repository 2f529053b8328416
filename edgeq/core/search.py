"""Which candidate a search takes: the first, in an order set beforehand, that keeps the budget.

Who looks often enough finds one that is lucky: after each look at a candidate that was not refuted,
the next one is allowed half the error (``Standard.looks``), so that a search errs less than twice
as often as one look, however many it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeq.core.profile import Precision
from edgeq.core.standard import WORST_FIRST, Judged, Standard, Verdict

ORDER: tuple[Precision, ...] = ("int8", "mixed", "int8-dynamic", "fp16", "int16x8", "float32")
"""Best first. Whole-number inference is the smallest and fastest. fp16 runs at float's speed and
comes before int16x8, which has no fast kernels (100 times int8's latency in LiteRT)."""

SAME_SIZE = 1.02
"""Within this factor two artifacts are as small; quality decides."""

_SAFE: frozenset[Precision] = frozenset({"fp16", "int16x8", "float32"})
"""Rounded so finely that a look at them needs no allowance for the looks before."""


def verdicts(candidates: Sequence[Judged], standard: Standard) -> list[Verdict]:
    """Look at them in the order of preference, ever more strictly."""
    found = [standard.judge(one) for one in candidates]
    looks = 0
    for place in rank(candidates):
        if candidates[place].precision in _SAFE:
            continue
        found[place] = replace(standard, looks=looks).judge(candidates[place])
        looks += not found[place].refuted
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Places in the candidates that were given.

    Attributes:
        chosen: None when no candidate holds the budget or seems to.
        nearest: The one that comes closest; None without candidates.
        proved: What was chosen holds the budget, it does not merely seem to.
    """

    chosen: int | None
    nearest: int | None
    proved: bool


def choose(candidates: Sequence[Judged], standard: Standard) -> Choice:
    """The first in the order that holds the budget, else the first that seems to."""
    found = verdicts(candidates, standard)
    ranked = rank(candidates)
    seeming = [verdict.outcome == "likely" for verdict in found]
    for good in ([verdict.enough for verdict in found], seeming):
        for place in ranked:
            if good[place]:
                proved = found[place].outcome == "holds"
                return Choice(chosen=place, nearest=place, proved=proved)

    def distance(place: int) -> tuple[int, float]:
        return -WORST_FIRST.index(found[place].outcome), found[place].excess

    nearest = min(ranked, key=distance, default=None)
    return Choice(chosen=None, nearest=nearest, proved=False)


def rank(candidates: Sequence[Judged]) -> tuple[int, ...]:
    """Places in the order of preference.

    By kind; of one kind those within 2 % of the smallest first, by their quality on samples that
    do not judge, then the others by size. What judges has no say in the order: a candidate that
    comes first by luck would be one that was chosen by luck.
    """
    smallest: dict[Precision, int] = {}
    for one in candidates:
        smallest[one.precision] = min(one.size_bytes, smallest.get(one.precision, one.size_bytes))

    def key(place: int) -> tuple[int, float, float]:
        one = candidates[place]
        larger = one.size_bytes > SAME_SIZE * smallest[one.precision]
        return (
            ORDER.index(one.precision),
            float(one.size_bytes) if larger else 0.0,
            -one.apart_sqnr_db,
        )

    return tuple(sorted(range(len(candidates)), key=key))
