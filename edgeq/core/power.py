"""From readings of power, voltage and current, or an energy counter to energy per inference."""

from dataclasses import dataclass

from edgeq.core import accuracy, energy
from edgeq.core.meter import MIN_SAMPLES, NS_PER_S, QUANTITIES, Meter, Stretch, meters, of_source
from edgeq.core.raw import Raw
from edgeq.core.report import PowerSection
from edgeq.core.telemetry import Found, Missing

__all__ = ["NS_PER_S", "Method", "power"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How many windows of what length an interval takes."""

    windows: int = energy.WINDOWS
    window_s: float = energy.WINDOW_S


_FULL = Method()


def power(raw: Raw, method: Method = _FULL) -> Found[PowerSection | None]:
    """Power and energy by the source that covers the most; None, with the reason, without a meter.

    Energy per inference is that of the measured stretch of each process by the inferences in it;
    net is less the idle power for the same time. A total is never added to its parts. A meter of
    the host's own, where the user named one, is the only one that counts.
    """
    own = raw.measured.meter
    if own is not None:
        named = None if own.reason else of_source(raw, own.source)
        if named is None:
            return _unusable(raw, own.reason or f"fewer than {MIN_SAMPLES} readings in that time")
        return _section(raw, named, method)
    found = meters(raw)
    if not found:
        return Found(None, (Missing("power", _why_none(raw)),))
    return _section(raw, found[0], method)


def _section(raw: Raw, meter: Meter, method: Method) -> Found[PowerSection | None]:
    figures = _Figures(raw, meter, method)
    clock = raw.measured.meter
    uncertainty, why_not = accuracy.percent(raw, meter.source, raw.windows_ns)
    missing = figures.missing
    if uncertainty is None:
        missing.append(Missing("power.uncertainty_percent", why_not))
    windows, rest = figures.windows, figures.idle
    section = PowerSection(
        source=meter.source,
        coverage=meter.coverage or None,
        mean_w=figures.mean_w,
        idle_w=rest.watts if rest else None,
        idle_drift_w=rest.drift_w if rest else None,
        energy_mj=windows.per_inference_mj() if windows else None,
        energy_ci_mj=figures.gross_ci_mj(),
        energy_net_mj=figures.net_mj(),
        energy_net_ci_mj=figures.net_ci_mj(),
        measured_s=windows.seconds * windows.count if windows else None,
        windows=windows.count if windows else None,
        window_s=windows.seconds if windows else None,
        sample_hz=1 / meter.period_s,
        gap_max_s=meter.gap_s(figures.measured),
        uncertainty_percent=uncertainty,
        # The device's own sensors are read by the clock that times the inferences.
        clock_offset_s=clock.offset_s if clock else 0.0,
        clock_uncertainty_s=clock.uncertainty_s if clock else 0.0,
        clock_drift_ppm=clock.drift_ppm if clock else 0.0,
    )
    told = {item.field for item in missing}
    missing += [
        Missing(f"power.{field}", "the device's clock was not compared with the host's")
        for field in ("clock_offset_s", "clock_uncertainty_s", "clock_drift_ppm")
        if getattr(section, field) is None and f"power.{field}" not in told
    ]
    return Found(section, tuple(missing))


class _Figures:
    """What a meter says of a run; whatever is None has its reason in ``missing``."""

    def __init__(self, raw: Raw, meter: Meter, method: Method) -> None:
        self.missing: list[Missing] = []
        self.measured = _seconds(raw.windows_ns)
        self._meter = meter
        self._short = ""
        self.windows = self._cut(raw, method)
        self.idle = self._rest(raw)
        self.mean_w = sum(self.windows.joules) / self._seconds() if self.windows else None

    def gross_ci_mj(self) -> energy.Interval | None:
        if self.windows is None or self._short:
            self._none("energy_ci_mj", self._short)
            return None
        return energy.gross_interval_mj(self.windows)

    def net_mj(self) -> float | None:
        why = self._why_no_net()
        if why or self.windows is None or self.idle is None:
            self._none("energy_net_mj", why)
            return None
        return self.windows.per_inference_mj(self.idle.watts)

    def net_ci_mj(self) -> energy.Interval | None:
        why = self._why_no_net() or self._short
        if why or self.windows is None or self.idle is None:
            self._none("energy_net_ci_mj", why)
            return None
        found = energy.net_interval_mj(self.windows, self.idle)
        if found is None:
            self._none("energy_net_ci_mj", "the idle time is too short to say")
        return found

    def _cut(self, raw: Raw, method: Method) -> energy.Windows | None:
        why = self._meter.trouble(self.measured)
        if not why:
            windows = energy.cut(self._meter, raw.processes, method.window_s)
            if sum(windows.joules) >= 0:
                self._short = windows.why_short(method.windows, method.window_s)
                return windows
            why = f"{self._meter.source} reads less than nothing: its shunt may be turned round"
        self._short = why
        for field in ("mean_w", "energy_mj", "measured_s", "windows", "window_s"):
            self._none(field, why)
        return None

    def _rest(self, raw: Raw) -> energy.Idle | None:
        before, after = (_seconds(raw.spans_ns(p)) for p in ("idle_before", "idle_after"))
        both = before + after
        why = self._meter.trouble(both) if both else "no time was set apart for it"
        if why:
            self._none("idle_w", why)
            self._none("idle_drift_w", why)
            return None
        found = energy.idle(self._meter, before, after)
        if found.drift_w is None:
            self._none("idle_drift_w", "idle time on one side of the run only")
        return found

    def _why_no_net(self) -> str:
        if self.windows is None:
            return self._short
        if self.idle is None:
            return "the idle power is not known"
        return energy.why_no_net(self.mean_w, self.idle, "device")

    def _none(self, field: str, why: str) -> None:
        self.missing.append(Missing(f"power.{field}", why))

    def _seconds(self) -> float:
        return sum(end - start for start, end in self.measured)


def _unusable(raw: Raw, why: str) -> Found[PowerSection | None]:
    """A meter of the host's that says nothing of this run."""
    own = raw.measured.meter
    if own is None:
        return Found(None, (Missing("power", why),))
    section = PowerSection(
        source=own.source,
        coverage=own.coverage,
        clock_offset_s=own.offset_s,
        clock_uncertainty_s=own.uncertainty_s,
        clock_drift_ppm=own.drift_ppm,
    )
    empty = [name for name, value in section.model_dump().items() if value is None]
    return Found(section, tuple(Missing(f"power.{name}", why) for name in empty))


def _seconds(stretches: tuple[tuple[float, float], ...]) -> list[Stretch]:
    return [(start / NS_PER_S, end / NS_PER_S) for start, end in stretches]


def _why_none(raw: Raw) -> str:
    parts = sorted(
        {
            c.channel.source
            for c in raw.columns
            if c.channel.quantity in QUANTITIES and len(c.values)
        }
    )
    if parts:
        return f"no sensor covers the whole, only parts: {', '.join(parts)}"
    refused = [why for why in raw.refused if any(q in why for q in QUANTITIES)]
    if refused:
        return refused[0]
    return raw.measured.missing.get("power", "no power sensor that this user may read")
