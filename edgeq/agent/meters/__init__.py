"""Power meters, one file each with ``probe(root) -> Found``: the file is its registration."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from edgeq.agent.ports import Found


def find(root: Path) -> Found:
    """Every meter's channels; where there are none, each meter's reason."""
    found = [
        importlib.import_module(f"{__name__}.{name}").probe(root)
        for name in sorted(module.name for module in pkgutil.iter_modules(__path__))
    ]
    sensors = tuple(sensor for each in found for sensor in each.sensors)
    reasons = "; ".join(each.reason for each in found if each.reason)
    if sensors:
        return Found(sensors)
    return Found(reason=reasons or "no power meter found (hwmon INA, battery, RAPL)")
