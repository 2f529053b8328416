"""What a power monitor's data sheet promises, as a share of what was measured.

The largest errors at 25 °C are added up, not squared. Not in them: the shunt's own tolerance
(1 % on many boards), temperature, and what the meter does not see.
"""

from dataclasses import dataclass

import numpy as np

from edgeq.core.raw import Raw

_REASONS = {
    "rapl": "Intel and AMD promise no accuracy for RAPL",
    "power_supply": "no battery gauge says how accurate it is",
    "odpm": "Google promises no accuracy for the Pixel's power monitor",
    "pmic_read_adc,": "Raspberry Pi promises no accuracy for the Pi 5's power chip",
}
Stretches = tuple[tuple[float, float], ...]

_UNKNOWN = "the accuracy of this meter is not known to edgeq"
_NO_PARTS = "voltage and current of the source were not read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Largest errors of a monitor: gains in percent, offsets of shunt, bus and current."""

    current_percent: float
    voltage_percent: float
    shunt_offset_v: float = 0.0
    voltage_offset_v: float = 0.0
    current_offset_a: float = 0.0


# Texas Instruments: SBOS576 (INA3221), SBOS448 (INA219A, range 320 mV), SBOS547 (INA226),
# SBOS656 (INA260), SLYS025 (INA238).
SHEETS = {
    "ina3221": Sheet(
        current_percent=0.25, voltage_percent=0.25, shunt_offset_v=80e-6, voltage_offset_v=16e-3
    ),
    "ina219": Sheet(current_percent=0.5, voltage_percent=0.5, shunt_offset_v=200e-6),
    "ina226": Sheet(
        current_percent=0.1, voltage_percent=0.1, shunt_offset_v=10e-6, voltage_offset_v=7.5e-3
    ),
    "ina260": Sheet(
        current_percent=0.15, voltage_percent=0.1, voltage_offset_v=7.5e-3, current_offset_a=5e-3
    ),
    "ina238": Sheet(
        current_percent=0.1, voltage_percent=0.1, shunt_offset_v=5e-6, voltage_offset_v=5e-3
    ),
}


def percent(raw: Raw, source: str, stretches: Stretches) -> tuple[float | None, str]:
    """The largest error of a source's mean power, in percent; or None and why."""
    driver, _, rails = source.partition(" ")
    sheet = SHEETS.get(driver)
    if sheet is None:
        return None, _REASONS.get(driver, _UNKNOWN)
    total_w = error_w = 0.0
    for rail in rails.split(" + "):
        own = f"{driver} {rail}".strip()
        volts, amperes = (_mean(raw, own, q, stretches) for q in ("voltage_v", "current_a"))
        shunt_ohm = _shunt_ohm(raw, own)
        if volts is None or amperes is None:
            return None, _NO_PARTS
        if sheet.shunt_offset_v and not shunt_ohm:
            return None, "the resistance of the shunt is not known, on which the offset depends"
        offset_a = sheet.current_offset_a + sheet.shunt_offset_v / (shunt_ohm or 1.0)
        watts = abs(volts * amperes)
        gain = (sheet.current_percent + sheet.voltage_percent) / 100
        error_w += watts * gain + abs(volts) * offset_a + abs(amperes) * sheet.voltage_offset_v
        total_w += watts
    return (100 * error_w / total_w, "") if total_w else (None, "it read 0 W")


def _mean(raw: Raw, source: str, quantity: str, stretches: Stretches) -> float | None:
    for column in raw.columns:
        if (column.channel.source, column.channel.quantity) == (source, quantity):
            values = column.within(stretches)
            return float(np.mean(values)) if len(values) else None
    return None


def _shunt_ohm(raw: Raw, source: str) -> float | None:
    found = (c.channel.shunt_ohm for c in raw.columns if c.channel.source == source)
    return next((ohm for ohm in found if ohm), None)
