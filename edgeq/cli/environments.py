"""``edgeq environments``: what edgeq installed beside itself for PyTorch, onnx2tf and training."""

import os
from typing import Annotated

import typer

app = typer.Typer(
    help="What edgeq installed beside itself for PyTorch, onnx2tf and training.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all environments: name, Python, packages, size, whether this edgeq uses them."""
    from edgeq import environments, places
    from edgeq.cli import render

    found = environments.installed(places.find(os.environ))
    if json:
        from pydantic import TypeAdapter

        typer.echo(TypeAdapter(tuple[environments.Installed, ...]).dump_json(found, indent=2))
        return
    rows = [
        (
            one.name,
            one.python,
            "n/a" if one.packages is None else str(one.packages),
            f"{one.size_bytes / (1 << 20):,.0f} MiB",
            one.state,
            str(one.folder),
        )
        for one in found
    ]
    render.table(
        ("environment", "python", "packages", "size", "state", "folder"),
        rows,
        "there are no environments yet: edgeq makes one when a model needs it",
    )


@app.command()
def remove(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of edgeq environments list.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Remove all of them.")] = False,
) -> None:
    """Delete environments; edgeq makes them again when it needs them."""
    from edgeq import environments, places
    from edgeq.errors import UsageError

    if (name is None) != every:
        raise UsageError(
            "name one environment, or say --all", hint="edgeq environments list shows them"
        )
    removed = environments.remove(places.find(os.environ), name)
    for one in removed:
        typer.echo(f"removed {one.name}, {one.size_bytes / (1 << 20):,.0f} MiB")
    if not removed:
        typer.echo("there are no environments")
