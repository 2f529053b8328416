"""``edgeq rollback``: the release before the active one becomes active again."""

from typing import Annotated

import typer

from edgeq.cli import words


def rollback(
    device: words.DeviceName,
    name: Annotated[
        str | None, typer.Option(help="Of the release; may be left out if there is only one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the previous release of a model back."""
    from dataclasses import asdict
    from json import dumps

    from edgeq.cli import jobs
    from edgeq.cli.wishes import tools

    target = jobs.target(device)
    if target.profile.profile.runtime.native:
        from edgeq.native.releases import rollback as go_back
    else:
        from edgeq.releases import rollback as go_back
    done = go_back(target.device, target.profile, tools(target, "rolls back"), name)
    if json:
        typer.echo(dumps(asdict(done)))
    else:
        typer.echo(
            f"{done.model} on {device}: {done.current} is active, {done.previous} was before"
        )
