"""Power meters, one file each with ``probe(root) -> Found``: the file is its registration."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from edgeq.agent.ports import Found


def find(root: Path) -> Found:
    """Every meter's channels; where there are none, each meter's reason."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [_probe(name, root) for name in names]
    sensors = tuple(sensor for each in found for sensor in each.sensors)
    reasons = "; ".join(each.reason for each in found if each.reason)
    if sensors:
        return Found(sensors)
    return Found(
        reason=reasons or "no power meter found (INA monitors, Pi 5 PMIC, battery, ODPM, RAPL)"
    )


def _probe(name: str, root: Path) -> Found:
    """One meter's; Android forbids apps to look into some folders at all."""
    try:
        found: Found = importlib.import_module(f"{__name__}.{name}").probe(root)
    except OSError as error:
        return Found(reason=f"{name}: {error.filename}: {error.strerror}")
    return found
