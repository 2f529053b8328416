"""``edgeq runs``: what was measured before."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgeq.core.report import Report
    from edgeq.stores.sqlite import SqliteStore

app = typer.Typer(help="Earlier runs.", rich_markup_mode=None, no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def store() -> "SqliteStore":
    """The user's store of runs."""
    from edgeq import places
    from edgeq.stores import sqlite

    return sqlite.make(places.find(os.environ).data / sqlite.FILE_NAME)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    json: AsJson = False,
) -> None:
    """Show earlier runs, the newest first."""
    from edgeq.cli import render

    texts = store().list(limit)
    if json:
        typer.echo("[" + ",\n".join(text.rstrip("\n") for text in texts) + "]")
        return
    from edgeq.core import report

    rows = [_row(report.load(text, "a run in the store")) for text in texts]
    render.table(
        ("run", "model", "device", "p50", "verdict", "gates"),
        rows,
        "there are no runs yet; edgeq deploy makes one",
    )


@app.command()
def show(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", help="Its name; the beginning or the last part will do.")
    ],
    json: AsJson = False,
) -> None:
    """Show one run's report."""
    text, _ = store().load(run_id)
    if json:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    from edgeq.cli import render
    from edgeq.core import report

    render.report(report.load(text, f"run {run_id}"))


def _row(found: "Report") -> tuple[str | None, ...]:
    from edgeq.cli import wording

    latency = found.latency
    failed = sum(not gate.passed for gate in found.gates)
    return (
        found.run_id,
        found.model.name,
        found.device.name,
        wording.number(latency.p50_ms if latency else None, "ms"),
        found.verdict.status,
        f"{failed} failed" if failed else "passed" if found.gates else "none",
    )
