"""Tables and fields of ``edgeq inspect``, as wide as the terminal, or as ``COLUMNS`` says."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.cli import render, wording

if TYPE_CHECKING:
    from rich.console import Console

_NAME_WIDTH = 48
_LEAST_NAME = 12
_LEAST_TEXT = 8
_LEAST_BODY = 20
_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``top``: rows of each table; None: all. ``full``: names are not shortened."""

    top: int | None
    full: bool


def console() -> "Console":
    """``render.console``, but ``COLUMNS`` is heeded where the output is a pipe or a file too."""
    made = render.console()
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        made.width = int(columns)
    return made


def fields(out: "Console", pairs: Iterable[tuple[str, str | None]]) -> None:
    """Print names and values below each other; long values go on below themselves."""
    from rich.text import Text

    lines = [(name, wording.UNKNOWN if value is None else value) for name, value in pairs]
    width = max(len(name) for name, _ in lines)
    room = max(out.width - width - len(_GAP), _LEAST_BODY)
    for name, value in lines:
        label = name
        for line in Text(render.printable(value)).wrap(out, room):
            line.rstrip()
            start = f"{render.printable(label).ljust(width)}{_GAP}"
            out.print(Text.assemble(start, line), soft_wrap=True)
            label = ""


def table(
    out: "Console", title: str, head: Sequence[str], rows: list[list[str]], look: Look
) -> None:
    """Columns as wide as what stands in them; the one marked ``*`` takes the rest of the line."""
    if not rows:
        return
    names = [name.lstrip("*>") for name in head]
    shown = [names, *([render.printable(cell) for cell in row] for row in rows[: look.top])]
    widths = [max(len(row[i]) for row in shown) for i in range(len(head))]
    if not look.full:
        widths = _fitted(widths, head, out.width)
    out.print()
    out.print(title, style="bold")
    for row in shown:
        cells = (
            text.rjust(width) if name.startswith(">") else text.ljust(width)
            for name, width, text in zip(head, widths, map(shortened, row, widths), strict=True)
        )
        line = _GAP.join(cells).rstrip()
        out.print(line, no_wrap=True, crop=False, style="dim" if row is names else "")
    if len(rows) > len(shown) - 1:
        out.print(f"… {len(rows) - len(shown) + 1} more: --top 0, or --json FILE", style="dim")


def _fitted(widths: Sequence[int], head: Sequence[str], room: int) -> list[int]:
    """Widths that fit a line: the flexible column gives way first, then the other texts."""
    fitted = list(widths)
    flexible = next(i for i, name in enumerate(head) if name.startswith("*"))
    fitted[flexible] = min(fitted[flexible], _NAME_WIDTH)
    texts = [i for i, name in enumerate(head) if not name.startswith((">", "*"))]
    for column in (flexible, *sorted(texts, key=lambda i: -widths[i])):
        least = min(fitted[column], _LEAST_NAME if column == flexible else _LEAST_TEXT)
        beyond = sum(fitted) + len(_GAP) * (len(fitted) - 1) - room
        fitted[column] = max(least, fitted[column] - max(beyond, 0))
    return fitted


def shortened(name: str, width: int) -> str:
    """The end of a name says most; of names that a converter joined, the first is the last op."""
    if len(name) <= width:
        return name
    first = name.split(";", 1)[0]
    if len(first) < width:
        return f"{first}…"
    return f"…{first[len(first) - width + 1 :]}"
