"""``edgeq convert``: up to the artifact or the bundle."""

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli import words


def convert(
    model: words.Model,
    device: words.ProfileName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Default: NAME.tflite here; a bundle if it ends in .edgeq."
        ),
    ] = None,
    calibration: words.Calibration = None,
    evaluate: words.Evaluate = None,
    format: words.Format = None,  # noqa: A002 - the option's name
    precision: words.Precision = None,
    keep_float: words.KeepFloat = None,
    equalize: words.Equalize = False,
    correct_bias: words.CorrectBias = False,
    search_seconds: words.SearchSeconds = None,
    confidence: words.Confidence = None,
    max_drop: words.MaxDrop = None,
    min_agreement: words.MinAgreement = None,
    min_sqnr: words.MinSqnr = None,
    budget: words.Budget = None,
    name: words.Name = None,
    release_version: words.Version = None,
    trust_model: words.TrustModel = False,
    json: words.Json = None,
) -> None:
    """Convert MODEL for a kind of device and prove it on this machine; no device is touched."""
    from edgeq.cli import conversion, jobs, render
    from edgeq.cli.wishes import Wishes, check_model

    render.check_target(json)
    check_model(model)
    wishes = Wishes(
        calibration=calibration,
        evaluation=evaluate,
        format=format,
        precision=precision,
        keep_float=tuple(keep_float or ()),
        equalize=equalize,
        correct_bias=correct_bias,
        search_seconds=search_seconds,
        confidence=confidence,
        max_drop=max_drop,
        min_agreement=min_agreement,
        min_sqnr_db=min_sqnr,
        budgets=tuple(budget or ()),
        name=name,
        version=release_version,
        trust=trust_model,
    )
    conversion.run(model, jobs.kind(device), wishes, output, json)
