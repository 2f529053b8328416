"""Options that several commands share: the same words everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path,
    typer.Argument(
        help="Keras .h5 or .keras, SavedModel folder, .onnx, PyTorch .pt2 or TorchScript .pt, "
        "float .tflite, or .edgeq bundle."
    ),
]
DeviceName = Annotated[
    str, typer.Option("--device", help="A device that was added, or the profile 'host'.")
]
ProfileName = Annotated[
    str, typer.Option("--device", help="A profile (edgeq profiles list), or a device of yours.")
]
Calibration = Annotated[
    Path | None,
    typer.Option(help="Samples for quantization: a folder of images, .npy or .npz."),
]
Evaluate = Annotated[
    Path | None,
    typer.Option(help="Labelled samples that prove the result: class folders of images, or .npz."),
]
Format = Annotated[
    str | None, typer.Option(help="tflite or onnx; default: the profile's.", metavar="FORMAT")
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="int8, int8-dynamic, int16x8, int4-weights, fp16, mixed, float32, or auto: the best"
        " that keeps to --max-drop; default: the profile's."
    ),
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENSOR",
        help="Leave what makes this tensor in float32, with --precision mixed. Repeatable.",
    ),
]
Equalize = Annotated[
    bool,
    typer.Option("--equalize", help="Even out the ranges of neighbouring layers' channels first."),
]
CorrectBias = Annotated[
    bool, typer.Option("--correct-bias", help="Take the mean error out of the biases afterwards.")
]
SearchSeconds = Annotated[
    float | None,
    typer.Option(
        help="Time for --precision auto, after loading; interrupted, it goes on where it was."
        "  [default: 120]",
        min=0,
    ),
]
OnDevice = Annotated[
    bool,
    typer.Option(
        "--on-device",
        help="With --precision auto: measure the candidates there, and take the best.",
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="How sure --precision auto has to be that the budget is kept.  [default: 0.95]",
        min=0.51,
        max=0.9999,
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(help="Largest loss of accuracy, absolute.  [default: 0.01]", min=0, max=1),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        help="Least agreement of the top class with the float model, where there are no labels."
        "  [default: 0.9]",
        min=0,
        max=1,
    ),
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Limit: latency_p90_ms, peak_memory_mib, energy_mj, artifact_mib. Repeatable.",
    ),
]
MinSqnr = Annotated[
    float | None,
    typer.Option(
        "--min-sqnr",
        metavar="DB",
        help="Least signal-to-noise ratio, where the outputs are not class scores.  [default: 10]",
    ),
]
Meter = Annotated[
    str | None,
    typer.Option(
        metavar="KIND[:FILE]",
        help="Power meter at this machine: joulescope, csv:FILE (any logger's table) or spl:FILE"
        " (PTDaemon); default: the device's own sensors.",
    ),
]
Name = Annotated[str | None, typer.Option(help="Release name; default: the file's stem.")]
Version = Annotated[
    int | None, typer.Option("--release-version", help="Version of the release.", min=1)
]
TrustModel = Annotated[
    bool,
    typer.Option("--trust-model", help="Allow code inside the model (Lambda layers) to run."),
]
Json = Annotated[
    str | None, typer.Option("--json", help="Write the report there as JSON; - is stdout.")
]
CoolTo = Annotated[
    float | None,
    typer.Option(
        metavar="CELSIUS",
        help="Before each measuring process wait until the device is as cool as that.",
        min=-40,
        max=150,
    ),
]
CoolLimit = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Wait so long for it in all.  [default: 300]", min=0),
]
PinFrequency = Annotated[
    str | None,
    typer.Option(
        "--pin-frequency",
        metavar="[MHZ]",
        help="Hold the CPU's clock while measuring, at so many MHz or the highest, and set it back."
        " Needs root or sudo there.",
    ),
]
Cpus = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Run the model on these CPUs only, such as 2-3 or 0,2."),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="One-off device; --device then names its profile.",
        metavar="USER@HOST[:PORT]",
    ),
]
BenchmarkModel = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="TFLite's benchmark_model for a phone: a file here, or device:/PATH there.",
    ),
]
Identity = Annotated[Path | None, typer.Option(help="Private key file for --host.")]
Fingerprint = Annotated[
    str | None,
    typer.Option(help="The host key's fingerprint, as known from elsewhere.", metavar="SHA256:…"),
]
AcceptNew = Annotated[bool, typer.Option("--accept-new", help="Pin the host key unseen.")]
