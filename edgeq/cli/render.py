"""What people read: a report, and lists. Plain text where the output is no terminal."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from edgeq.cli import wording

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from edgeq.core.report import Gate, Report

_LABEL_WIDTH = 11
_STYLES = {"valid": "bold green", "invalid": "bold red", "inconclusive": "bold yellow"}
# Whoever reads a file or a pipe gets whole lines; a table in a terminal fits it.
_PIPED_WIDTH = 10_000
_LEAST_BODY = 20
# Lines that go on stand further in than new items.
_HANG = "  "
# Gates whose limit is the least that passes, not the most.
_LEAST = frozenset({"top1_agreement", "sqnr_db", "cosine"})


def console(stream: TextIO | None = None) -> "Console":
    """A rich console that is plain unless ``stream`` is a terminal and NO_COLOR is not set."""
    from rich.console import Console

    out = stream or sys.stdout
    fancy = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Console(
        file=out,
        force_terminal=fancy,
        color_system="auto" if fancy else None,
        no_color=not fancy,
        width=None if out.isatty() else _PIPED_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


class HasReport(Protocol):
    """What a command brings back."""

    @property
    def report(self) -> "Report": ...


def result(done: HasReport, json: str | None) -> None:
    """Print the report, and write it as JSON to the file ``json``; ``-`` prints the JSON instead.

    Raises:
        HostError: the file cannot be written.
    """
    from edgeq.core.report import dump

    if json != "-":
        report(done.report)
    for_machines(dump(done.report), json)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line."""
    console(stream).print(printable(text))


def for_machines(text: str, json: str | None) -> None:
    """Write the form for machines where ``--json`` says: to a file, to stdout (``-``), or not.

    Raises:
        HostError: the file cannot be written.
    """
    if json == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    elif json:
        save(Path(json), text)


def check_target(json: str | None) -> None:
    """Before the work begins: the report can be written where it is wanted.

    Raises:
        UsageError: it cannot.
    """
    from edgeq.errors import UsageError

    if json in (None, "-"):
        return
    path = Path(str(json))
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(f"--json {json}: no file can be written there", hint="name another file")


def save(path: Path, contents: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        HostError: it cannot be written.
    """
    import tempfile

    from edgeq.errors import HostError

    part = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name[:64]}.", delete=False
        ) as file:
            part = Path(file.name)
            file.write(contents if isinstance(contents, bytes) else contents.encode())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def report(found: "Report", stream: TextIO | None = None) -> None:
    """Print a report for people."""
    out = console(stream)
    _heading(out, found)
    for label, text in wording.rows(found):
        _line(out, label, text)
    if found.search is not None:
        from edgeq.cli import searched

        out.print()
        searched.show(found.search, stream)
        out.print()
    _gates(out, found.gates)
    _verdict(out, found)
    _notes(out, "not known", _grouped(found.unavailable), "dim")
    _notes(out, "warnings", found.warnings, "yellow")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str | None]],
    empty: str,
    stream: TextIO | None = None,
) -> None:
    """Print a list with a heading; ``empty`` (with what to do) instead where there is nothing."""
    lines = [[wording.UNKNOWN if cell is None else printable(cell) for cell in row] for row in rows]
    out = console(stream)
    if not lines:
        _print(out, empty)
        return
    if out.width == _PIPED_WIDTH:
        widths = [max(len(line[i]) for line in [list(head), *lines]) for i in range(len(head))]
        for line in [list(head), *lines]:
            padded = "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True))
            _print(out, padded.rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in head:
        shown.add_column(name, overflow="fold")
    for line in lines:
        shown.add_row(*(Text(cell) for cell in line))
    out.print(shown)


def fields(pairs: Iterable[tuple[str, str | None]]) -> None:
    """Print names and values below each other."""
    out = console()
    lines = [(name, wording.UNKNOWN if value is None else value) for name, value in pairs]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        _print(out, value, indent=f"{name.ljust(width)}  ")


def printable(text: str) -> str:
    """Names come from outside: control characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _heading(out: "Console", found: "Report") -> None:
    from rich.text import Text

    out.print()
    out.print(
        Text.assemble(
            (printable(found.model.name), "bold"),
            " on ",
            (printable(found.device.name), "bold"),
            f" ({printable(found.device.profile)})  run {printable(found.run_id)}",
        )
    )
    out.print()


def _gates(out: "Console", gates: "Sequence[Gate]") -> None:
    for index, gate in enumerate(gates):
        passed = "passed" if gate.passed else "FAILED"
        bound = "at least" if gate.name in _LEAST else "at most"
        value = wording.UNKNOWN if gate.value is None else f"{gate.value:.4g}"
        _line(
            out,
            "gates" if index == 0 else "",
            f"{passed}  {gate.name} {value}, {bound} {gate.limit:.4g}",
            "green" if gate.passed else "bold red",
        )


def _verdict(out: "Console", found: "Report") -> None:
    status = found.verdict.status
    _line(out, "verdict", status.upper(), _STYLES[status])
    for reason in found.verdict.reasons:
        _line(out, "", reason, _STYLES[status].removeprefix("bold "))


def _notes(out: "Console", label: str, notes: "Sequence[str]", style: str) -> None:
    if not notes:
        return
    out.print()
    _print(out, label, style)
    for note in notes:
        _print(out, note, style, indent="  ")


def _grouped(unavailable: "Mapping[str, str]") -> list[str]:
    """One line for each reason, with all the fields that it is the reason for."""
    by_reason: dict[str, list[str]] = {}
    for field, reason in unavailable.items():
        by_reason.setdefault(reason, []).append(field)
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _line(out: "Console", label: str, text: str, style: str = "") -> None:
    from rich.text import Text

    _wrapped(out, Text(label.ljust(_LABEL_WIDTH), style="dim"), Text(printable(text), style=style))


def _print(out: "Console", text: str, style: str = "", indent: str = "") -> None:
    from rich.text import Text

    _wrapped(out, Text(indent), Text(printable(text), style=style), hang=_HANG if indent else "")


def _wrapped(out: "Console", label: "Text", body: "Text", hang: str = "") -> None:
    """The label once, the body wrapped beside it; where there is no terminal, one line."""
    from rich.text import Text

    room = max(out.width - label.cell_len - len(hang), _LEAST_BODY)
    for line in body.wrap(out, room) if out.width < _PIPED_WIDTH else [body]:
        line.rstrip()
        out.print(Text.assemble(label, line), soft_wrap=True)
        label = Text(" " * label.cell_len + hang)
        hang = ""
