"""Lists of CPUs as the kernel writes them: ``0-3,6``."""

import re
from collections.abc import Iterable

MOST_CPU = 4095
_PART = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


def parse(text: str) -> tuple[int, ...]:
    """The numbers in order, each once.

    Raises:
        ValueError: it is no such list, or empty.
    """
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f'"{text}" is not a list of CPUs such as "2-3" or "0,2"')
        low = int(match[1])
        high = int(match[2]) if match[2] else low
        if not low <= high <= MOST_CPU:
            raise ValueError(f'"{part}" is not a range of CPUs')
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def listed(cpus: Iterable[int]) -> str:
    """The same the other way."""
    spans: list[tuple[int, int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], cpu)
        else:
            spans.append((cpu, cpu))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
