"""``edgeq qat``: train a model so that it bears int8."""

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli import words


def qat(
    model: Annotated[
        Path, typer.Argument(help="Keras .h5 or .keras, or PyTorch .pt2 of torch.export.")
    ],
    train: Annotated[
        Path,
        typer.Option(
            help="Samples to train on: class folders of images, .npz or .npy; a tenth is kept back."
        ),
    ],
    epochs: Annotated[int, typer.Option(help="Rounds over the samples.", min=1, max=10_000)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: NAME-qat.keras or NAME-qat.pt2 here."),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(help="Labelled samples that the comparison is made on; they train nothing."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Size of a step (Adam).  [default: 0.0001]", min=1e-9, max=1.0),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Samples to a step.  [default: 32]", min=1, max=65_536)
    ] = None,
    device: Annotated[
        str,
        typer.Option("--device", help="A profile, or a device of yours: what int8 is made for."),
    ] = "host",
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0, max=2**31 - 1)] = 0,
    json: words.Json = None,
) -> None:
    """Fine-tune MODEL with int8 rounding in its way, and compare with int8 without training.

    Interrupted, the same command goes on after the last finished epoch.
    """
    from edgeq.cli import fine_tuning, render
    from edgeq.cli.wishes import check_model

    render.check_target(json)
    check_model(model)
    wish = fine_tuning.Wish(
        model=model,
        training=train,
        evaluation=evaluate,
        device=device,
        output=output,
        epochs=epochs,
        learning_rate=learning_rate,
        batch=batch,
        seed=seed,
    )
    fine_tuning.run(wish, json)
