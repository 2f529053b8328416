"""An option whose value may be left out, which the command line's parser does not know."""

import re
from collections.abc import Sequence

PIN = "--pin-frequency"
HIGHEST = "max"
# Also one that is wrong, such as 17k, so that it is named as such; no file is called like that.
_LIKE_A_FREQUENCY = re.compile(r"[0-9.]+ ?[a-z]{0,4}")


def with_values(arguments: Sequence[str]) -> list[str]:
    """``--pin-frequency`` may stand alone: then it is given its value here."""
    found = []
    for place, word in enumerate(arguments):
        after = arguments[place + 1] if place + 1 < len(arguments) else ""
        alone = word == PIN and not _is_value(after.lower())
        found.append(f"{PIN}={HIGHEST}" if alone else word)
    return found


def _is_value(word: str) -> bool:
    return word == HIGHEST or _LIKE_A_FREQUENCY.fullmatch(word) is not None


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
