"""The larger models, Keras and SavedModel, as .onnx: TensorFlow's own numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

SHARED = os.environ.get("EDGEQ_SHARED_DATA")
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not SHARED, reason="EDGEQ_SHARED_DATA names no folder with larger models"),
]
KERAS = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
x = np.random.default_rng(1).uniform(0, 255, (20, *model.input_shape[1:])).astype("float32")
np.savez(sys.argv[2], x=x, y=np.concatenate([model(x[i:i+1]).numpy() for i in range(20)]))
"""
SAVED = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
call = loaded.signatures["serving_default"]
(spec,) = call.structured_input_signature[1].values()
x = np.random.default_rng(1).standard_normal((20, *spec.shape[1:])).astype("float32")
answers = [list(call(**{spec.name: tf.constant(x[i:i+1])}).values())[0].numpy() for i in range(20)]
np.savez(sys.argv[2], x=x, y=np.concatenate(answers))
"""


@pytest.mark.parametrize(
    ("name", "program"), [("resnet8_cifar10.h5", KERAS), ("kws_saved_model", SAVED)]
)
def test_onnx_gives_tensorflows_numbers(user, tmp_path, name, program):
    model = Path(SHARED) / "models" / name
    made, wanted, report = tmp_path / "m.onnx", tmp_path / "wanted.npz", tmp_path / "r.json"
    quiet = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run(
        [sys.executable, "-c", program, model, wanted], check=True, capture_output=True, env=quiet
    )
    user.convert(model, made, "--json", report)
    session = onnxruntime.InferenceSession(made)
    (entry,) = session.get_inputs()
    with np.load(wanted) as arrays:
        for x, y in zip(arrays["x"], arrays["y"], strict=True):
            (found,) = session.run(None, {entry.name: x[None]})
            np.testing.assert_allclose(found[0], y, atol=1e-5)
    assert json.loads(report.read_text())["artifact"]["format"] == "onnx"
