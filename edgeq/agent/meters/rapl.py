"""Intel's and AMD's energy counters: Linux Documentation/power/powercap.

Only root may read them since CVE-2020-8694.
"""

from __future__ import annotations

import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Found, Raw, Sensor, number, text_of


def probe(root: Path) -> Found:
    """Each package's energy since the first sample, and the platform's where the board has that."""
    zones = [
        zone
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        if zone.name.count(":") == 1
    ]
    readable = [zone for zone in zones if number(text_of(zone / "energy_uj").encode()) is not None]
    if zones and not readable:
        return Found(reason="RAPL: {} is for root only".format(zones[0] / "energy_uj"))
    return Found(tuple(_sensor(zone) for zone in readable))


def _sensor(zone: Path) -> Sensor:
    name = text_of(zone / "name") or zone.name
    coverage = "board" if name.startswith("psys") else "package"
    channel = wire.Channel("energy_j", "rapl " + name, coverage, total=True)
    range_uj = number(text_of(zone / "max_energy_range_uj").encode())
    return Sensor(channel, (zone / "energy_uj",), lambda rows: _unwrap(rows, range_uj))


def _unwrap(rows: typing.Sequence[Raw], range_uj: float | None) -> list[float | None]:
    """Cumulative joules from 0; the counter starts again after ``range_uj``."""
    values: list[float | None] = []
    total_uj, last_uj = 0.0, None
    for raw in rows:
        now_uj = number(raw[0])
        if now_uj is None:
            values.append(None)
            continue
        if last_uj is not None:
            step_uj = now_uj - last_uj
            total_uj += step_uj if step_uj >= 0 or not range_uj else step_uj + range_uj
        last_uj = now_uj
        values.append(total_uj / 1e6)
    return values
