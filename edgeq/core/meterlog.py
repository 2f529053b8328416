"""The files that power meters' own programs write: rows of time and power."""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from edgeq.core.raw import Numbers

# Units by the end of a column's name; a time without one is told by its size.
_POWER = {"power_w": 1.0, "watts": 1.0, "power_mw": 1e-3, "power_uw": 1e-6, "power_kw": 1e3}
_VOLTAGE = {"voltage_v": 1.0, "volts": 1.0, "voltage_mv": 1e-3, "voltage_uv": 1e-6}
_CURRENT = {"current_a": 1.0, "amps": 1.0, "amperes": 1.0, "current_ma": 1e-3, "current_ua": 1e-6}
_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_TIME = re.compile(r"(time|timestamp|datetime|date_time|unix|epoch|unix_time|utc)(_(s|ms|us|ns))?")
_SPELLINGS = {
    "watt": "watts", "p_w": "power_w", "power_watts": "power_w", "power_watt": "power_w",
    "volt": "volts", "v_v": "voltage_v", "u_v": "voltage_v", "bus_voltage_v": "voltage_v",
    "amp": "amps", "i_a": "current_a", "i_ma": "current_ma",
    "time_sec": "time_s", "time_seconds": "time_s", "timestamp_seconds": "timestamp_s",
}  # fmt: skip
_DELIMITERS = ",;\t"
_HEAD_LINES = 100
# A number of a time without a unit: seconds until the year 5138, and so on.
_BY_SIZE = ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6), (math.inf, 1e-9))
COLUMNS = "time_s or timestamp, and power_w or power_mw, or voltage_v and current_a or current_ma"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Log:
    """Rows in the order of the file.

    Attributes:
        times_s: Since 1970; where not ``zoned``, as if the wall clock's time were UTC.
        watts: NaN where a row has none.
    """

    times_s: Numbers
    watts: Numbers
    zoned: bool


Read = Callable[[str], Log]


def read_csv(text: str) -> Log:
    """Any logger's table with a header that names time, and power or voltage and current.

    Raises:
        ValueError: there is no such header; in words.
    """
    lines = text.splitlines()
    place, delimiter, columns = _header(lines)
    rows = csv.reader(lines[place + 1 :], delimiter=delimiter)
    comma = delimiter != ","
    times, watts, zoned = [], [], True
    for row in rows:
        found = _row(row, columns, decimal_comma=comma)
        if found is not None:
            times.append(found[0])
            watts.append(found[1])
            zoned = zoned and found[2]
    return Log(times_s=np.array(times, float), watts=np.array(watts, float), zoned=zoned)


def read_spl(text: str) -> Log:
    """PTDaemon's log, as MLPerf's ``spl.txt``: ``Time,11-21-2026 12:00:00.123,Watts,12.3,…``.

    Raises:
        ValueError: no line of it is one.
    """
    times, watts = [], []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        pairs = dict(zip((word.lower() for word in words[::2]), words[1::2], strict=False))
        moment = _spl_time(pairs.get("time", ""))
        if moment is None or "watts" not in pairs:
            continue
        value = _number(pairs["watts"])
        # The daemon writes -1 where the analyzer gave no reading.
        times.append(moment)
        watts.append(math.nan if value is None or value < 0 else value)
    if not times:
        raise ValueError("no line begins with Time, and has Watts")
    return Log(times_s=np.array(times, float), watts=np.array(watts, float), zoned=False)


def steady(log: Log) -> Log:
    """The rows that have a value, each moment once.

    Raises:
        ValueError: its clock was set back; in words.
    """
    there = np.isfinite(log.watts) & np.isfinite(log.times_s)
    times, watts = log.times_s[there], log.watts[there]
    if bool(np.any(np.diff(times) < 0)):
        place = int(np.argmax(np.diff(times) < 0)) + 1
        raise ValueError(f"its times run backwards at reading {place + 1}")
    times, places = np.unique(times, return_index=True)
    return Log(times_s=times, watts=watts[places], zoned=log.zoned)


def _header(lines: Sequence[str]) -> tuple[int, str, Mapping[str, tuple[int, float | None]]]:
    """Where the header is, what separates its columns, and what they are.

    ``columns``: time, watts, volts and amperes, each with its place and unit.
    """
    for place, line in enumerate(lines[:_HEAD_LINES]):
        for delimiter in _DELIMITERS:
            names = next(csv.reader([line.lstrip("#").strip()], delimiter=delimiter), [])
            columns = _columns([_plain(name) for name in names])
            if "time" in columns and ("watts" in columns or {"volts", "amperes"} <= set(columns)):
                return place, delimiter, columns
    raise ValueError(f"no header with {COLUMNS}")


def _columns(names: Sequence[str]) -> dict[str, tuple[int, float | None]]:
    found: dict[str, tuple[int, float | None]] = {}
    for place, name in enumerate(names):
        time = _TIME.fullmatch(name)
        if time is not None:
            found.setdefault("time", (place, _TIME_UNITS.get(time[3])))
        for what, units in (("watts", _POWER), ("volts", _VOLTAGE), ("amperes", _CURRENT)):
            if name in units:
                found.setdefault(what, (place, units[name]))
    return found


def _plain(name: str) -> str:
    """``Power (mW)`` as ``power_mw``."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.replace("µ", "u").lower()).strip("_")
    return _SPELLINGS.get(plain, plain)


def _row(
    row: Sequence[str], columns: Mapping[str, tuple[int, float | None]], *, decimal_comma: bool
) -> tuple[float, float, bool] | None:
    """Seconds, watts (NaN where there are none) and whether the time has a zone."""
    if len(row) <= max(place for place, _ in columns.values()):
        return None
    place, unit = columns["time"]
    moment = _moment(row[place].strip(), unit, decimal_comma=decimal_comma)
    if moment is None:
        return None
    values = {
        what: _number(row[at].replace(",", ".") if decimal_comma else row[at], scale or 1.0)
        for what, (at, scale) in columns.items()
        if what != "time"
    }
    watts = values.get("watts")
    if "watts" not in columns:
        volts, amperes = values["volts"], values["amperes"]
        watts = None if volts is None or amperes is None else volts * amperes
    return moment[0], math.nan if watts is None else watts, moment[1]


def _moment(text: str, unit: float | None, *, decimal_comma: bool) -> tuple[float, bool] | None:
    """A number of seconds (ms, …) since 1970, or ISO 8601; None where it is neither."""
    value = _number(text.replace(",", ".") if decimal_comma else text)
    if value is not None:
        by_size = next(scale for limit, scale in _BY_SIZE if abs(value) < limit)
        return value * (unit or by_size), True
    try:
        parsed = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        return None
    zoned = parsed.tzinfo is not None
    return (parsed if zoned else parsed.replace(tzinfo=UTC)).timestamp(), zoned


def _spl_time(text: str) -> float | None:
    for form in _spl_forms(text):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None


def _spl_forms(text: str) -> Iterator[str]:
    fraction = ".%f" if "." in text else ""
    yield f"%m-%d-%Y %H:%M:%S{fraction}"


def _number(text: str, unit: float = 1.0) -> float | None:
    try:
        value = float(text.strip()) * unit
    except ValueError:
        return None
    return value if math.isfinite(value) else None
