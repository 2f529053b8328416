"""Does a runtime import and run here? Wheel tags lie; a model of one operator does not."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from edgeq import wire
from edgeq.agent import predict, tensors
from edgeq.agent.ports import FailureError, RuntimeModule

# tests/fakes/tiny_model.py and tiny_onnx.py write them: y = W x + b, float32, x of shape (1, 4).
_TFLITE = base64.b64decode(
    "HAAAAFRGTDMUABwAGAAUABAADAAIAAAAAAAEABQAAAAYAAAAiAAAAAQBAAAMAQAAVAIAAAMAAAABAAAAEAAAAAAA"
    "CgAQAAwACAAEAAoAAAAMAAAAHAAAADwAAAAPAAAAc2VydmluZ19kZWZhdWx0AAEAAAAMAAAACAAMAAgABAAIAAAA"
    "AwAAAAQAAAABAAAAeQAAAAEAAAAEAAAAuv///wQAAAABAAAAeAAAAAUAAAB4AAAAcAAAADAAAAAMAAAABAAAACT/"
    "///m////BAAAAAwAAAAAAAAAAACAPwAAgL8AAAYACAAEAAYAAAAEAAAAMAAAAAAAgD8AAAAAAAAAAAAAAAAAAAAA"
    "AAAAQAAAAAAAAIC/AAAAPwAAAD8AAAA/AAAAP4T///+I////BAAAAHRpbnkAAAAAAQAAABQAAAAAAA4AGAAUABAA"
    "DAAIAAQADgAAABQAAAAcAAAAZAAAAGgAAABsAAAABAAAAG1haW4AAAAAAQAAABQAAAAAAA4AFAAAABAADAALAAQA"
    "DgAAABQAAAAAAAAIEAAAABQAAAAEAAQABAAAAAEAAAADAAAAAwAAAAAAAAABAAAAAgAAAAEAAAADAAAAAQAAAAAA"
    "AAAEAAAAjAAAAFQAAAAsAAAABAAAAJD///8MAAAABAAAAAwAAAABAAAAeQAAAAIAAAABAAAAAwAAALT///8MAAAA"
    "AwAAABAAAAAEAAAAYmlhcwAAAAABAAAAAwAAANj///8MAAAAAgAAABAAAAAHAAAAd2VpZ2h0cwACAAAAAwAAAAQA"
    "AAAMABAADAAAAAgABAAMAAAADAAAAAEAAAAMAAAAAQAAAHgAAAACAAAAAQAAAAQAAAABAAAAEAAAAAwADAALAAAA"
    "AAAEAAwAAAAJAAAAAAAACQ=="
)
_ONNX = base64.b64decode(
    "CAg6vwEKMAoBeAoHd2VpZ2h0cwoEYmlhcxIBeRoEZ2VtbSIER2VtbSoNCgZ0cmFuc0IYAaABAhIEdGlueSpBCAMIBBAB"
    "Qgd3ZWlnaHRzSjAAAIA/AAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAACAvwAAAD8AAAA/AAAAPwAAAD8qGAgDEAFCBGJp"
    "YXNKDAAAAAAAAIA/AACAv1oTCgF4Eg4KDAgBEggKAggBCgIIBGITCgF5Eg4KDAgBEggKAggBCgIIA0IECgAQEQ=="
)
MODELS = {".tflite": _TFLITE, ".onnx": _ONNX}


def run(module: RuntimeModule) -> wire.Probed:
    """Import numpy and the runtime, and run a tiny model."""
    try:
        import numpy as np

        numpy_version = str(np.__version__)
    except (ImportError, OSError, AttributeError) as error:
        return wire.Probed(ok=False, detail=f"numpy does not import: {error}")
    try:
        version = predict.import_runtime(module)
        with tempfile.NamedTemporaryFile(suffix=module.SUFFIX, dir=".") as file:
            file.write(MODELS[module.SUFFIX])
            file.flush()
            runner = tensors.start(module, Path(file.name), wire.Runtime(""), None)
        with tensors.running():
            for position, value in enumerate(tensors.random_inputs(runner.inputs)):
                runner.set(position, value)
            runner.invoke()
    except FailureError as failure:
        return wire.Probed(ok=False, numpy_version=numpy_version, detail=failure.message)
    return wire.Probed(
        ok=True,
        name=module.NAME,
        version=version,
        numpy_version=numpy_version,
        providers=module.providers(),
    )
