"""Whether the figures of benchmark_model can be trusted, and why not."""

from collections.abc import Iterator

from edgeq.core import verdict
from edgeq.core.parity import Parity
from edgeq.core.profile import RunProtocol
from edgeq.core.report import Status, VerdictSection
from edgeq.native import delegates, figures
from edgeq.native.log import Stat
from edgeq.native.measure import Measured

# Of single runs; block medians, which other devices are judged by, lie closer together.
_MAX_SWING = 2 * verdict.MAX_SPREAD


def judge(
    measured: Measured,
    protocol: RunProtocol,
    compared: Parity | str,
    flags: tuple[str, ...],
) -> VerdictSection:
    """``invalid`` when a figure is wrong, ``inconclusive`` when it may be, else ``valid``.

    Args:
        measured: What was measured.
        protocol: What was asked for.
        compared: Host against phone, or why that could not be.
        flags: The program's.
    """
    wrong = [*_throttled(measured), *_fallback(measured, flags), *_differs(compared)]
    doubtful = [*_unproved(compared), *_too_few(measured, protocol), *_unstable(measured)]
    status: Status = "invalid" if wrong else "inconclusive" if doubtful else "valid"
    return VerdictSection(status=status, reasons=(*wrong, *doubtful))


def _swing(stat: Stat) -> float:
    """How far apart the runs lie, of the middle: p5 to p95, or else two standard deviations.

    One that was interrupted for long moves a standard deviation, and no percentile.
    """
    if stat.median_us and stat.p5_us is not None and stat.p95_us is not None:
        return (stat.p95_us - stat.p5_us) / stat.median_us
    return 2 * stat.std_us / stat.mean_us if stat.mean_us > 0 else 0.0


def _throttled(measured: Measured) -> Iterator[str]:
    if figures.throttled(measured):
        before, after = measured.throttle
        yield (
            f"throttled: Android's thermal status was {before or 'unknown'} before and"
            f" {after or 'unknown'} after the run"
        )


def _fallback(measured: Measured, flags: tuple[str, ...]) -> Iterator[str]:
    found = (
        reason
        for one in measured.processes
        for reason in delegates.fallbacks(one.told, flags, one.log.unconsumed)
    )
    yield from (f"fallback: {reason}" for reason in dict.fromkeys(found))


def _differs(compared: Parity | str) -> Iterator[str]:
    if isinstance(compared, Parity):
        off = compared.max_abs_diff
        if off is None or off > compared.limit:
            yield "parity: the phone's answers differ from the host's"


def _unproved(compared: Parity | str) -> Iterator[str]:
    if isinstance(compared, str):
        yield f"parity: not compared: {compared}"


def _too_few(measured: Measured, protocol: RunProtocol) -> Iterator[str]:
    runs = sum(one.log.measured.count for one in measured.processes if one.log.measured)
    if runs < verdict.MIN_RUNS:
        yield f"too-few-runs: {runs}; a bounded 90th percentile takes {verdict.MIN_RUNS}"
    elif runs < protocol.runs:
        yield f"too-few-runs: {runs} of the {protocol.runs} that were asked for"


def _unstable(measured: Measured) -> Iterator[str]:
    stats = [one.log.measured for one in measured.processes if one.log.measured]
    swing = max(map(_swing, stats), default=0.0)
    if swing > _MAX_SWING:
        yield f"unstable: latency swings by {swing:.0%} within a process"
    means = [one.median_us if one.median_us is not None else one.mean_us for one in stats]
    middle = sorted(means)[len(means) // 2]
    if middle > 0 and (max(means) - min(means)) / middle > verdict.MAX_PROCESS_SPREAD:
        spread = (max(means) - min(means)) / middle
        yield f"unstable: latency differs by {spread:.0%} between processes"
    if middle * 1e3 < verdict.MIN_P50_NS:
        yield f"timer: an inference of {middle:.1f} us is short for a clock of microseconds"
