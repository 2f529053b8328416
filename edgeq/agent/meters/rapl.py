"""Intel's and AMD's energy counters: Linux Documentation/power/powercap.

Only root may read them since CVE-2020-8694.
"""

from __future__ import annotations

import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, number, text_of


def probe(root: Path) -> Found:
    """Each package's energy since the first sample, and the platform's where the board has that.

    Zones within a package (core, dram) are parts of it; ``intel-rapl-mmio`` shows a package again.
    """
    zones: dict[str, Path] = {}
    for folder in ("sys/class/powercap", "sys/devices/virtual/powercap/intel-rapl"):
        for zone in sorted((root / folder).glob("intel-rapl:*")):
            if zone.name.count(":") == 1:
                zones.setdefault(zone.name, zone)
    known = {name: zone for name, zone in zones.items() if _microjoules(zone) is not None}
    if zones and not known:
        path = next(iter(zones.values())) / "energy_uj"
        return Found(reason=f"RAPL: {path} is for root only")
    return Found(tuple(_sensor(zone) for zone in known.values()))


def _microjoules(zone: Path) -> float | None:
    return number(text_of(zone / "energy_uj").encode())


def _sensor(zone: Path) -> Sensor:
    name = text_of(zone / "name") or zone.name
    coverage = "board" if name.startswith("psys") else "package"
    channel = wire.Channel("energy_j", "rapl " + name, coverage, total=True)
    range_uj = number(text_of(zone / "max_energy_range_uj").encode())
    return Sensor(channel, (zone / "energy_uj",), lambda rows: _unwrap(rows, range_uj))


def _unwrap(rows: typing.Sequence[Raw], range_uj: float | None) -> list[float | None]:
    """Cumulative joules from 0; the counter starts again after ``range_uj``.

    Where that is not known, a counter that started again leaves nothing to reckon with.
    """
    values: list[float | None] = []
    total_uj: float | None = 0.0
    last_uj = None
    for raw in rows:
        now_uj = number(raw[0])
        if now_uj is None or total_uj is None:
            values.append(None)
            continue
        step_uj = 0.0 if last_uj is None else now_uj - last_uj
        if step_uj < 0:
            step_uj = step_uj + range_uj if range_uj else -1.0
        total_uj = total_uj + step_uj if step_uj >= 0 else None
        last_uj = now_uj
        values.append(None if total_uj is None else total_uj / 1e6)
    return values
