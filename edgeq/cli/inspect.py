"""``edgeq inspect``: what stands in a model, and the error of each layer."""

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli import words


def inspect(
    model: words.Model,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", help="A profile or device: name the operators its runtime leaves in float."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FLOAT", help="The float model, for the error of each layer."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Inputs for --against: a folder of images, .npy or .npz; default: edgeq.toml's."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="At most so many inputs, spread evenly.", min=1)
    ] = 100,
    format: words.Format = None,  # noqa: A002 - the option's name
    top: Annotated[int, typer.Option(help="Rows of each table; 0: all.", min=0)] = 20,
    full: Annotated[bool, typer.Option("--full", help="Do not shorten names.")] = False,
    trust_model: words.TrustModel = False,
    json: words.Json = None,
) -> None:
    """Show what stands in MODEL, and with --against where its error comes from."""
    from edgeq.cli import inspection, render
    from edgeq.cli.inspect_tables import Look
    from edgeq.cli.wishes import check_model

    render.check_target(json)
    check_model(model)
    wish = inspection.Wish(
        model=model,
        device=device,
        against=against,
        data=data,
        samples=samples,
        format=format,
        trust=trust_model,
    )
    inspection.run(wish, Look(top=top or None, full=full), json)
