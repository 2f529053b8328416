"""The command line: commands by name, and the one place that turns an error into an exit."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

import edgeq
from edgeq.cli import (
    arguments,
    convert,
    deploy,
    devices,
    environments,
    evaluate,
    inspect,
    profiles,
    qat,
    rollback,
    runs,
    schema,
)
from edgeq.errors import EdgeqError, StoppedError

app = typer.Typer(
    help="Quantize a model for a small computer, prove it, push it, run it there and measure it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
app.command("deploy")(deploy.deploy)
app.command("convert")(convert.convert)
app.command("evaluate")(evaluate.evaluate)
app.command("qat")(qat.qat)
app.command("inspect")(inspect.inspect)
app.add_typer(devices.app, name="devices")
app.command("doctor")(devices.doctor)
app.add_typer(environments.app, name="environments")
app.add_typer(profiles.app, name="profiles")
app.add_typer(runs.app, name="runs")
app.command("rollback")(rollback.rollback)
app.command("schema")(schema.schema)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgeq {edgeq.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; an error that the user can mend is two lines on stderr and its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app(arguments.with_values(sys.argv[1:]), prog_name="edgeq")
    except EdgeqError as error:
        sys.stdout.flush()
        typer.echo(f"edgeq: {_printable(error.message)}", err=True)
        if error.hint:
            typer.echo(f"  try: {_printable(error.hint)}", err=True)
        sys.exit(error.exit_code)


def _stop(number: int, _frame: FrameType | None) -> None:
    # A second signal ends it at once; the first one lets every part clean up.
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_DFL)
    raise StoppedError(number)


def _printable(text: str) -> str:
    """Names come from outside: no control character of theirs reaches the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
