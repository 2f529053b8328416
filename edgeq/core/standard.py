"""What a budget asks of a candidate, and whether one keeps it, beyond the luck of its samples.

A candidate *holds* the budget when the bound of what it loses does, not merely the figure itself.
Gains are luck too, as quantization teaches nothing: they make up for no more than as many losses.
Where the samples are too few for a proof, a candidate that changes hardly any answer is *likely*.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from edgeq.core import drop, gates
from edgeq.core.drop import Counts, Interval
from edgeq.core.gates import Limits
from edgeq.core.profile import Precision
from edgeq.core.quality import Quality
from edgeq.core.report import Gate, QualitySection

Outcome = Literal["holds", "likely", "unproved", "fails"]
WORST_FIRST: tuple[Outcome, ...] = ("fails", "unproved", "likely", "holds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is known of a candidate.

    Attributes:
        counts: None without labels or class scores.
        apart_sqnr_db: On samples that do not judge; infinite when the answers are equal.
    """

    name: str
    precision: Precision
    size_bytes: int
    quality: Quality
    counts: Counts | None
    apart_sqnr_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of one candidate.

    Attributes:
        excess: How far its worst bound is from its limit, in terms of it; the least is nearest.
        enough: There is no need to look for anything better.
        refuted: It breaks the budget beyond doubt.
        looks: At candidates before this one.
    """

    outcome: Outcome
    reason: str
    excess: float
    enough: bool = False
    refuted: bool = False
    looks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What is asked.

    Attributes:
        confidence: Of each bound, one-sided, above a half; at the first look.
        looks: At candidates before, none of them refuted; each halves the error allowed.
    """

    limits: Limits
    confidence: float
    looks: int = 0

    @property
    def sure(self) -> float:
        """Confidence of a bound at this look."""
        return 1 - (1 - self.confidence) / float(2**self.looks)

    def gates(self, quality: Quality) -> tuple[Gate, ...]:
        """The gates that the artifact will have to pass."""
        section = QualitySection(
            samples=quality.samples,
            sqnr_db=quality.sqnr_db,
            top1_agreement=quality.top1_agreement,
            float_accuracy=quality.float_accuracy,
            artifact_accuracy=quality.artifact_accuracy,
            accuracy_drop=quality.accuracy_drop,
        )
        return gates.quality_gates(section, has_real_data=True, limits=self.limits)

    def _few(self, found: Judged) -> bool:
        samples = found.quality.samples
        one = Counts(samples=samples, losses=1, gains=0)
        for gate in self.gates(found.quality):
            if gate.name == "accuracy_drop":
                bound = drop.drop_interval(one, self.sure).high
            elif gate.name == "top1_agreement":
                bound = drop.share_interval(samples - 1, samples, self.sure).low
            else:
                continue
            if _excess(gate, bound) > 0:
                return True
        return False

    def drop_bounds(self, counts: Counts | None) -> Interval | None:
        return None if counts is None else drop.drop_interval(counts, self.sure)

    def drop_bound(self, counts: Counts | None) -> float | None:
        """What the drop is at most, with no credit for gains beyond the losses."""
        if counts is None:
            return None
        sober = replace(counts, gains=min(counts.gains, counts.losses))
        return drop.drop_interval(sober, self.sure).high

    def agreement_bounds(self, quality: Quality) -> Interval | None:
        if quality.top1_agreement is None:
            return None
        agreed = round(quality.top1_agreement * quality.samples)
        return drop.share_interval(agreed, quality.samples, self.sure)

    def judge(self, found: Judged) -> Verdict:
        """Whether a candidate keeps the budget, at the first look.

        Where one lost answer would make the proof fail, none is asked for: a candidate that
        hardly changes any is as good as one that happens to change none.
        """
        verdicts = [self._judge(gate, found) for gate in self.gates(found.quality)]
        same = Verdict(outcome="holds", reason="it answers as the float model", excess=-math.inf)
        worst = min(verdicts, key=lambda v: (WORST_FIRST.index(v.outcome), -v.excess), default=same)
        return replace(
            worst,
            enough=worst.outcome == "holds" or (worst.outcome == "likely" and self._few(found)),
            refuted=self._refutes(found),
            looks=self.looks,
        )

    def _refutes(self, found: Judged) -> bool:
        for gate in self.gates(found.quality):
            match gate.name:
                case "accuracy_drop":
                    bounds = self.drop_bounds(found.counts)
                    if bounds and bounds.low > gate.limit:
                        return True
                case "top1_agreement":
                    bounds = self.agreement_bounds(found.quality)
                    if bounds and bounds.high < gate.limit:
                        return True
                case _:
                    if not gate.passed:
                        return True
        return False

    def doubts(self, found: Judged) -> tuple[Gate, ...]:
        """A failed gate for each bound beyond its limit though the figure itself keeps it."""
        doubts = []
        for gate in self.gates(found.quality):
            bound = self._bound(gate, found)
            if gate.passed and bound is not None and _excess(gate, bound) > 0:
                name = f"{gate.name}_bound"
                doubts.append(Gate(name=name, limit=gate.limit, value=bound, passed=False))
        return tuple(doubts)

    def samples_needed(self, found: Judged) -> int | None:
        """About how many samples prove the budget for a candidate; None: no number does."""
        needed = []
        for gate in self.gates(found.quality):
            if gate.name == "accuracy_drop":
                counts = found.counts
                if counts:
                    counts = replace(counts, gains=min(counts.gains, counts.losses))
                needed.append(drop.samples_for_drop(gate.limit, self.sure, counts))
            elif gate.name == "top1_agreement":
                needed.append(drop.samples_for_share(gate.limit, self.sure))
        known = [n for n in needed if n is not None]
        return max(known, default=None) if len(known) == len(needed) else None

    def _judge(self, gate: Gate, found: Judged) -> Verdict:
        if not gate.passed:
            return _failed(gate)
        bound = self._bound(gate, found)
        if bound is None:  # a ratio, which is no share of samples that may be lucky
            return Verdict(outcome="holds", reason=_kept(gate), excess=_excess(gate, gate.value))
        excess = _excess(gate, bound)
        say = _SURE if excess <= 0 else _DOUBTFUL
        reason = f"{say[gate.name]} {bound:.4f} ({100 * self.sure:g} %)"
        if excess <= 0:
            return Verdict(outcome="holds", reason=reason, excess=excess)
        agreement = found.quality.top1_agreement
        safe = (
            agreement is not None
            and 1 - agreement <= _changes_allowed(gate) / 2**self.looks + _ROUNDING
        )
        return Verdict(outcome="likely" if safe else "unproved", reason=reason, excess=excess)

    def _bound(self, gate: Gate, found: Judged) -> float | None:
        """The worst that a gate's figure may be; None where it has no interval."""
        match gate.name:
            case "accuracy_drop":
                return self.drop_bound(found.counts)
            case "top1_agreement":
                share_bounds = self.agreement_bounds(found.quality)
                return share_bounds.low if share_bounds else None
            case _:
                return None


def _failed(gate: Gate) -> Verdict:
    excess = _excess(gate, gate.value)
    if gate.value is None:
        reason = f"its {_WORDS[gate.name]} is not known"
    else:
        than = "more" if gate.name in _MOST else "less"
        unit = _UNITS.get(gate.name, "")
        reason = f"its {_WORDS[gate.name]} is {gate.value:.4g}{unit}, {than} than {gate.limit:g}"
    return Verdict(outcome="fails", reason=reason, excess=excess)


def _kept(gate: Gate) -> str:
    unit = _UNITS.get(gate.name, "")
    return f"its {_WORDS[gate.name]} is {gate.value:.4g}{unit}, at least {gate.limit:g}"


def _excess(gate: Gate, value: float | None) -> float:
    if value is None:
        return math.inf
    return value - gate.limit if gate.name in _MOST else gate.limit - value


def _changes_allowed(gate: Gate) -> float:
    """Share of changed answers at which a budget still seems to be held, without a proof.

    Half of those that may be lost, were each change a loss. A candidate that loses as many as it
    may shows so few with 3 % where the samples just do not suffice for a proof.
    """
    return (gate.limit if gate.name in _MOST else 1 - gate.limit) / 2


_MOST = frozenset({"accuracy_drop"})
_WORDS = {"accuracy_drop": "drop", "top1_agreement": "agreement", "sqnr_db": "SQNR"}
_UNITS = {"sqnr_db": " dB"}
_SURE = {"accuracy_drop": "its drop is at most", "top1_agreement": "it agrees on at least"}
_DOUBTFUL = {"accuracy_drop": "its drop may be", "top1_agreement": "it may agree on only"}
_ROUNDING = 1e-9
