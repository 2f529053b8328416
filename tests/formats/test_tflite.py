from pathlib import Path

import pytest

from edgeq.errors import ModelError
from edgeq.formats import tflite

MODEL = Path(__file__).parents[1] / "data/badly_scaled/badly_scaled.tflite"


def test_a_signature_whose_name_is_no_text_is_refused(tmp_path):
    damaged = tmp_path / "m.tflite"
    damaged.write_bytes(MODEL.read_bytes().replace(b"serving_default", b"\xc0erving_default"))
    with pytest.raises(ModelError, match="a name in it is no text"):
        tflite.Runner(damaged)
