"""Conditions that a deploy must meet. A figure that is not known, or not finite, meets none."""

import difflib
import math
from collections.abc import Callable, Sequence

from edgeq.core.profile import Budgets
from edgeq.core.report import Gate
from edgeq.errors import UsageError

# One point of accuracy, where the user names no other drop.
MAX_DROP = 0.01
# Without labels: of ten answers nine must stay the same. MLPerf Tiny's own int8 models keep more.
MIN_AGREEMENT = 0.90
# 0.90 - 0.89 is a little more than 0.01 in binary.
_ROUNDING = 1e-9
BUDGETS = tuple(Budgets.model_fields)


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
    *,
    accuracy_drop: float | None,
    top1_agreement: float | None,
    has_labels: bool,
    has_real_data: bool,
    max_drop: float | None = None,
    min_agreement: float | None = None,
) -> tuple[Gate, ...]:
    """With labels the drop; else, on real data with class scores, the agreement; else none.

    Limits that are None: 0.01 and 0.9. Naming a limit makes its gate, which does not pass where
    the figure is not known.
    """
    gates = []
    if has_labels or max_drop is not None:
        most = MAX_DROP if max_drop is None else max_drop
        gates.append(_gate("accuracy_drop", most, accuracy_drop, lambda v: v <= most + _ROUNDING))
    by_default = has_real_data and not has_labels and top1_agreement is not None
    if by_default or min_agreement is not None:
        least = MIN_AGREEMENT if min_agreement is None else min_agreement
        gates.append(
            _gate("top1_agreement", least, top1_agreement, lambda v: v >= least - _ROUNDING)
        )
    return tuple(gates)


def parity_gate(*, max_abs_diff: float | None, limit: float) -> Gate:
    """The device's answers lie within ``limit`` of the host's."""
    return _gate("parity", limit, max_abs_diff, lambda v: v <= limit)


def budget_gates(
    budgets: Budgets,
    *,
    latency_p90_ms: float | None,
    peak_memory_mib: float | None,
    energy_mj: float | None,
    artifact_mib: float | None,
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
