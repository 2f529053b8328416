"""``edgeq profiles``: the kinds of devices that edgeq knows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from edgeq.cli import detect

if TYPE_CHECKING:
    from edgeq.core.profile import NamedProfile

app = typer.Typer(help="Kinds of devices.", rich_markup_mode=None, no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
app.command("detect")(detect.detect)


@app.command("list")
def list_(json: AsJson = False) -> None:
    """Show all profiles."""
    from edgeq import registry
    from edgeq.cli import render

    found = registry.profiles()
    if json:
        _print_json([_plain(named) for named in found.values()])
        return
    rows = [
        (
            named.name,
            ", ".join(named.profile.machine.architectures) or "any",
            named.profile.description,
        )
        for named in found.values()
    ]
    render.table(("profile", "machine", "description"), rows, "none")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A profile's name, or the path of its file.")],
    json: AsJson = False,
) -> None:
    """Show one profile with all its values."""
    from edgeq import registry
    from edgeq.cli import render

    named = registry.profile(name)
    if json:
        _print_json(_plain(named))
        return
    render.fields(
        [("profile", named.name), ("file", str(named.path)), *_values(named.profile.model_dump())]
    )


def _plain(named: "NamedProfile") -> dict[str, object]:
    return {
        "name": named.name,
        "path": str(named.path),
        **named.profile.model_dump(mode="json"),
    }


def _values(tree: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Dotted keys and values as text; None where there is no value."""
    for key, value in tree.items():
        match value:
            case dict():
                yield from _values(value, f"{prefix}{key}.")
            case tuple():
                yield (
                    f"{prefix}{key}",
                    ", ".join(map(str, value)) or "any" * (key == "architectures") or "none",
                )
            case None:
                yield f"{prefix}{key}", _ABSENT.get(key, "not said")
            case _:
                yield f"{prefix}{key}", str(value)


_ABSENT = {
    "latency_p90_ms": "no limit",
    "peak_memory_mib": "no limit",
    "energy_mj": "no limit",
    "artifact_mib": "no limit",
    "glibc_min": "no glibc",
    "python": "the best one found",
}


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
