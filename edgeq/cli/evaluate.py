"""``edgeq evaluate``: float against artifact on labelled data."""

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli import words


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="The float model in any format; or a quantized file or a bundle, by itself."
        ),
    ],
    artifact: Annotated[
        Path | None,
        typer.Argument(help="What was made from it: .tflite, .onnx or .edgeq."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled samples: class folders of images, .npz or .npy, of any size; default: "
            "[evaluation] path in edgeq.toml."
        ),
    ] = None,
    corruptions: Annotated[
        bool,
        typer.Option(
            "--corruptions",
            help="The same under noise, blur, brightness, contrast and JPEG, in 5 strengths each.",
        ),
    ] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A metric of your own: an entry point in edgeq.metrics, or module:function. "
            "Repeatable.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="A profile; with --on-device a device. Default: host."),
    ] = None,
    on_device: Annotated[
        bool, typer.Option("--on-device", help="Run the artifact on the device itself.")
    ] = False,
    host: words.Host = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Exit 3 if accuracy falls by more.", min=0, max=1)
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Exit 3 if the top classes agree less often.", min=0, max=1),
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option("--min-sqnr", metavar="DB", help="Exit 3 if the SQNR is less."),
    ] = None,
    trust_model: words.TrustModel = False,
    identity: words.Identity = None,
    fingerprint: words.Fingerprint = None,
    accept_new: words.AcceptNew = False,
    json: words.Json = None,
) -> None:
    """Answer labelled data with the float model and the artifact, and compare."""
    from edgeq.cli import evaluation, jobs, render
    from edgeq.cli.evaluation import Asked

    render.check_target(json)
    asked = Asked(
        model=model,
        artifact=artifact,
        data=data,
        corruptions=corruptions,
        metrics=tuple(metric or ()),
        device=device,
        on_device=on_device,
        host=host,
        identity=identity,
        hosts=jobs.Trust(fingerprint=fingerprint, accept_new=accept_new),
        max_drop=max_drop,
        min_agreement=min_agreement,
        min_sqnr_db=min_sqnr,
        trust=trust_model,
    )
    evaluation.run(asked, json)
