"""Makes the test models and loads each: ``python -m tests.conversion.load_all FOLDER``.

In one process, as TensorFlow takes seconds to start. ``FOLDER/outcomes.json`` tells how each went.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from edgeq import sources, steps
from edgeq.core.project import Input
from edgeq.errors import EdgeqError
from edgeq.ports import LoadOptions
from tests.conversion import build_models

TRUSTED = (
    "harmless_lambda.h5",
    "harmless_lambda.keras",
    "custom.keras",
    "lambda.h5",
    "lambda.keras",
)
CROSSING = (
    "cnn.h5", "cnn_saved", "cnn.tflite", "cnn_dynamic.tflite", "mobilenet.h5", "autoencoder.h5",
    "streaming.h5", "two_by_two.keras", "two_by_two_saved", "tokens.keras", "binary.keras",
    "nested.keras", "unrolled.keras", "separable.h5", "v1_saved", "nan.keras", "empty.keras",
)  # fmt: skip


def main(folder: Path) -> None:
    models = folder / "models"
    models.mkdir()
    build_models.build(models)
    trace = Path(os.environ["EDGEQ_TEST_TRACE"])
    trace.unlink(missing_ok=True)
    names = sorted(path.name for path in models.iterdir() if "_plain" not in path.name)
    outcomes: dict[str, object] = {
        name: load(folder, name, LoadOptions(target="tflite")) for name in names
    }
    outcomes["open_sides.keras sized"] = load(
        folder, "open_sides.keras", LoadOptions(target="tflite", image_size=(12, 10))
    )
    for name in CROSSING:
        outcomes[f"{name} onnx"] = load(folder, name, LoadOptions(target="onnx"))
    outcomes["code ran untrusted"] = trace.exists()
    for name in TRUSTED:
        outcomes[f"{name} trusted"] = load(folder, name, LoadOptions(target="tflite", trust=True))
    outcomes["code ran trusted"] = trace.exists()
    outcomes["keras layers"] = layers()
    (folder / "outcomes.json").write_text(json.dumps(outcomes, default=str))


def layers() -> list[str]:
    import keras

    known = vars(keras.layers).items()
    return sorted({kind.__name__ for _, kind in known if isinstance(kind, type)})


def load(folder: Path, name: str, options: LoadOptions) -> dict[str, object]:
    place = folder / "pivots" / f"{name} {options.trust} {options.image_size} {options.target}"
    place.mkdir(parents=True)
    try:
        model = sources.identify_model(folder / "models" / name)
        request = steps.LoadRequest(
            source=model.source,
            loader=model.loader,
            folder=place,
            options=options,
            settings=Input(),
            data=None,
            reader=None,
        )
        pivot = steps.load(request, lambda *_: None)
    except EdgeqError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return {**asdict(pivot), "left": sorted(path.name for path in place.iterdir())}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
