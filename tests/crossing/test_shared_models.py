"""The larger models, Keras and SavedModel, as .onnx: TensorFlow's own numbers."""

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
# its objects need the Keras that saved them; its graph does not
SAVED = """
import sys, numpy as np, tensorflow as tf
v1 = tf.compat.v1
with v1.Session(graph=tf.Graph()) as session:
    meta = v1.saved_model.load(session, ["serve"], sys.argv[1])
    signature = meta.signature_def["serving_default"]
    (entry,), (end,) = signature.inputs.values(), signature.outputs.values()
    shape = [side.size for side in entry.tensor_shape.dim][1:]
    x = np.random.default_rng(1).standard_normal((20, *shape)).astype("float32")
    np.savez(sys.argv[2], x=x, y=session.run(end.name, {entry.name: x}))
"""


@pytest.mark.parametrize(
    ("name", "program"), [("resnet8_cifar10.h5", KERAS), ("kws_saved_model", SAVED)]
)
def test_onnx_gives_tensorflows_numbers(user, tmp_path, name, program):
    model = Path(SHARED) / "models" / name
    made, wanted = tmp_path / "made.onnx", tmp_path / "wanted.npz"
    quiet = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run(
        [sys.executable, "-c", program, model, wanted], check=True, capture_output=True, env=quiet
    )
    user.convert(model, made)
    session = onnxruntime.InferenceSession(made)
    (entry,) = session.get_inputs()
    with np.load(wanted) as arrays:
        for x, y in zip(arrays["x"], arrays["y"], strict=True):
            (found,) = session.run(None, {entry.name: x[None]})
            np.testing.assert_allclose(found[0], y, atol=1e-5)
