"""The op profile of ``benchmark_model --enable_op_profiling=true``.

The table of the regular runs is taken, not that of the initialisation; columns are found by their
heading, since ``[start]`` has gone and ``[times called]`` has come.
"""

import math
import re
from collections.abc import Sequence

from edgeq.core.report import OpTime

_TITLE = re.compile(r"=+ (Run Order|Top by Computation Time|Summary by node type) =+")
_INITIALISATION = re.compile(r"Profiling Info for Benchmark Initialization")
_REGULAR = re.compile(r"Profiling Info for Regular Benchmark Runs")
_HEADING = re.compile(r"\[([^\]]+)\]")
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"


def parse(lines: Sequence[str]) -> tuple[OpTime, ...]:
    """The ops in the order they ran; empty where there is no table."""
    start = next((n for n, line in enumerate(lines) if _REGULAR.search(line)), None)
    if start is None and any(_INITIALISATION.search(line) for line in lines):
        return ()
    tables = _tables(lines[start or 0 :])
    for title in ("Run Order", "Top by Computation Time"):
        if rows := tables.get(title):
            return rows
    return ()


def _tables(lines: Sequence[str]) -> dict[str, tuple[OpTime, ...]]:
    """The first table of each title."""
    tables: dict[str, tuple[OpTime, ...]] = {}
    for number, line in enumerate(lines):
        title = _TITLE.search(line)
        if title is None or title[1] in tables or number + 1 >= len(lines):
            continue
        columns = [name.strip().lower() for name in _HEADING.findall(lines[number + 1])]
        if "avg ms" in columns[1:-1] and columns[-1] == "name":
            tables[title[1]] = _rows(lines[number + 2 :], columns)
    return tables


def _rows(lines: Sequence[str], columns: Sequence[str]) -> tuple[OpTime, ...]:
    """Rows up to the first line that is none. The type and the name may hold blanks."""
    middle = columns[1:-1]
    numbers = r"\s+".join(f"({_NUMBER})" + ("%" if "%" in name else "") for name in middle)
    row = re.compile(rf"\s*(?P<type>\S.*)\s+{numbers}\s+(?P<name>\S.*)")
    found = []
    for line in lines:
        matched = row.fullmatch(line.rstrip())
        if matched is None:
            break
        values = dict(zip(middle, (float(value) for value in matched.groups()[1:-1]), strict=True))
        if not all(map(math.isfinite, values.values())):
            break
        found.append(
            OpTime(
                type=matched["type"].strip(),
                name=matched["name"].strip().strip("[]"),
                mean_ms=values["avg ms"],
                share=values["%"] / 100 if "%" in values else None,
                memory_kib=values.get("mem kb"),
                calls=int(values["times called"]) if "times called" in values else None,
            )
        )
    return tuple(found)
