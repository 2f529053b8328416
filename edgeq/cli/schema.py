"""``edgeq schema``: the JSON Schemas of what edgeq reads and writes."""

from enum import StrEnum
from typing import Annotated

import typer

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Document(StrEnum):
    """What has a schema."""

    REPORT = "report"
    PROFILE = "profile"
    PROJECT = "project"
    INVENTORY = "inventory"
    MANIFEST = "manifest"


def schema(
    name: Annotated[
        Document,
        typer.Argument(metavar="NAME", help="What the file is."),
    ],
) -> None:
    """Print the JSON Schema of a file that edgeq reads or writes."""
    import json

    typer.echo(json.dumps(document(name), indent=2, ensure_ascii=False))


def document(name: Document) -> dict[str, object]:
    """A document's JSON Schema; keys are those of the file."""
    return {"$schema": DIALECT, "$id": f"urn:edgeq:{name.value}:1", **_model_schema(name)}


def _model_schema(name: Document) -> dict[str, object]:
    from edgeq.core import bundle, inventory, profile, project, report

    match name:
        case Document.REPORT:
            return report.Report.model_json_schema(mode="serialization")
        case Document.MANIFEST:
            return bundle.Manifest.model_json_schema(mode="serialization")
        case Document.PROFILE:
            return profile.Profile.model_json_schema()
        case Document.PROJECT:
            return project.Project.model_json_schema()
        case Document.INVENTORY:
            return inventory.Inventory.model_json_schema()
