"""``edgeq schema``: the JSON Schemas of what edgeq reads and writes."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Document(StrEnum):
    """What has a schema."""

    REPORT = "report"
    PROFILE = "profile"
    PROJECT = "project"
    INVENTORY = "inventory"
    MANIFEST = "manifest"
    INSPECTION = "inspection"
    EVALUATION = "evaluation"
    QAT = "qat"


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
    from edgeq.core import bundle, evaluation, inspection, inventory, profile, project, qat, report

    written: dict[Document, type[BaseModel]] = {
        Document.REPORT: report.Report,
        Document.MANIFEST: bundle.Manifest,
        Document.INSPECTION: inspection.Inspection,
        Document.EVALUATION: evaluation.Evaluation,
        Document.QAT: qat.QatReport,
    }
    read: dict[Document, type[BaseModel]] = {
        Document.PROFILE: profile.Profile,
        Document.PROJECT: project.Project,
        Document.INVENTORY: inventory.Inventory,
    }
    if name in written:
        return written[name].model_json_schema(mode="serialization")
    return read[name].model_json_schema()
