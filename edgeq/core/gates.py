"""Conditions that a deploy must meet. A figure that is not known, or not finite, meets none."""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeq.core.profile import Budgets
from edgeq.core.report import Gate, QualitySection
from edgeq.errors import UsageError

# One point of accuracy, where the user names no other drop.
MAX_DROP = 0.01
# Without labels: of ten answers nine must stay the same. MLPerf Tiny's own int8 models keep more.
MIN_AGREEMENT = 0.90
# With labels accuracy decides; but a float model that is at chance loses nothing by being ruined.
RUINED_AGREEMENT = 0.50
# Regression, reconstruction, several outputs: noise of a tenth of the signal's power. Sound int8
# models measured here have 16 dB and more, ruined ones less than 2.
MIN_SQNR_DB = 10.0
# 0.90 - 0.89 is a little more than 0.01 in binary.
_ROUNDING = 1e-9
BUDGETS = tuple(Budgets.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the user wishes of the quality; None: 0.01, 0.9 (0.5 with labels) and 10 dB."""

    max_drop: float | None = None
    min_agreement: float | None = None
    min_sqnr_db: float | None = None


def parse_budgets(words: Sequence[str], base: Budgets) -> Budgets:
    """``KEY=VALUE`` of ``--budget`` over the profile's own; ``KEY=none`` lifts a limit.

    Raises:
        UsageError: an unknown key, or a value that is not a number above 0.
    """
    chosen = base
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in BUDGETS:
            close = difflib.get_close_matches(key, BUDGETS, n=1)
            raise UsageError(
                f"--budget {word!r} is not KEY=VALUE with a known key",
                hint=f"write it as {close[0]}=NUMBER" if close else f"keys: {', '.join(BUDGETS)}",
            )
        chosen = chosen.model_copy(update={key: _limit(word, value)})
    return chosen


def quality_gates(
    quality: QualitySection, *, has_real_data: bool, limits: Limits | None = None
) -> tuple[Gate, ...]:
    """What the artifact must fulfil on the host.

    With labels the drop, and half of the top classes unchanged. Without, on real data, nine of ten
    of them; where there are no class scores, the SQNR, which is unknown when the answers are equal.
    Naming a limit makes its gate, which does not pass where the figure is not known.
    """
    limits = limits or Limits()
    has_labels = quality.float_accuracy is not None
    has_scores = quality.top1_agreement is not None
    gates = []
    if has_labels or limits.max_drop is not None:
        most = MAX_DROP if limits.max_drop is None else limits.max_drop
        drop = quality.accuracy_drop
        gates.append(_gate("accuracy_drop", most, drop, lambda v: v <= most + _ROUNDING))
    if limits.min_agreement is not None or (has_real_data and has_scores):
        usual = RUINED_AGREEMENT if has_labels else MIN_AGREEMENT
        wished = limits.min_agreement
        gates.append(_at_least("top1_agreement", wished, usual, quality.top1_agreement))
    nothing_else = has_real_data and not has_scores and not has_labels
    if limits.min_sqnr_db is not None or (nothing_else and quality.sqnr_db is not None):
        gates.append(_at_least("sqnr_db", limits.min_sqnr_db, MIN_SQNR_DB, quality.sqnr_db))
    return tuple(gates)


def asked_gates(quality: QualitySection, limits: Limits) -> tuple[Gate, ...]:
    """A gate for each limit that is named, and no other."""
    gates = []
    if (most := limits.max_drop) is not None:
        drop = quality.accuracy_drop
        gates.append(_gate("accuracy_drop", most, drop, lambda v: v <= most + _ROUNDING))
    if (least := limits.min_agreement) is not None:
        gates.append(_at_least("top1_agreement", least, least, quality.top1_agreement))
    if (least := limits.min_sqnr_db) is not None:
        gates.append(_at_least("sqnr_db", least, least, quality.sqnr_db))
    return tuple(gates)


def parity_gate(*, max_abs_diff: float | None, limit: float) -> Gate:
    """The device's answers lie within ``limit`` of the host's."""
    return _gate("parity", limit, max_abs_diff, lambda v: v <= limit)


def trial_gate(*, failures: int) -> Gate:
    """The model ran on the device without a crash, a hang or running out of memory."""
    return _gate("trial_failures", 0, float(failures), lambda v: v <= 0)


def budget_gates(
    budgets: Budgets,
    *,
    latency_p90_ms: float | None = None,
    peak_memory_mib: float | None = None,
    energy_mj: float | None = None,
    artifact_mib: float | None = None,
) -> tuple[Gate, ...]:
    """One gate for each limit that is set."""
    values = {
        "latency_p90_ms": latency_p90_ms,
        "peak_memory_mib": peak_memory_mib,
        "energy_mj": energy_mj,
        "artifact_mib": artifact_mib,
    }
    gates = []
    for name, value in values.items():
        limit: float | None = getattr(budgets, name)
        if limit is not None:
            gates.append(_budget_gate(name, limit, value))
    return tuple(gates)


def failures(gates: Sequence[Gate]) -> tuple[str, ...]:
    """A sentence for each gate that did not pass."""
    return tuple(
        f"{gate.name} is not known, the limit is {gate.limit:g}"
        if gate.value is None
        else f"{gate.name} is {gate.value:.4g}, the limit is {gate.limit:g}"
        for gate in gates
        if not gate.passed
    )


def _budget_gate(name: str, limit: float, value: float | None) -> Gate:
    # A budget is something that an inference takes: nothing is free.
    return _gate(name, limit, value, lambda v: 0 < v <= limit)


def _at_least(name: str, wished: float | None, usual: float, value: float | None) -> Gate:
    least = usual if wished is None else wished
    return _gate(name, least, value, lambda v: v >= least - _ROUNDING)


def _gate(name: str, limit: float, value: float | None, passes: Callable[[float], bool]) -> Gate:
    known = value if value is not None and math.isfinite(value) else None
    return Gate(name=name, limit=limit, value=known, passed=known is not None and passes(known))


def _limit(word: str, value: str) -> float | None:
    if value == "none":
        return None
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not (math.isfinite(limit) and limit > 0):
        raise UsageError(
            f"--budget {word!r}: {value!r} is not a number above 0",
            hint="the unit is in the key: _ms milliseconds, _mib MiB, _mj millijoules",
        )
    return limit
