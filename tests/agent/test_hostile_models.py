"""Damaged model files through the agent's predict: children may die, the agent answers on.

EDGEQ_TEST_HOSTILE_FILES sets how many of each format; 1,000 take some twelve minutes.
"""

import os
import random

import pytest

from edgeq import wire
from tests.agent.test_onnxfile import changed
from tests.agent.test_predict import SAMPLES, packed
from tests.fakes import tiny_model, tiny_onnx

COUNT = int(os.environ.get("EDGEQ_TEST_HOSTILE_FILES", "50"))
GOOD = {
    ".tflite": [
        tiny_model.float_model(), tiny_model.int8_model(), tiny_model.two_in_two_out_model(),
    ],
    ".onnx": [
        tiny_onnx.float_model(), tiny_onnx.int8_model(), tiny_onnx.two_in_two_out_model(),
        tiny_onnx.conv_net(),
    ],
}  # fmt: skip
KINDS = {".tflite": "litert", ".onnx": "onnxruntime"}


@pytest.mark.timeout(60 + 5 * COUNT)
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_changed_files_leave_the_agent_alive_and_are_answered_in_a_sentence(lasting, suffix):
    noise = random.Random(COUNT)
    lasting.put("scratch/in.npz", packed(SAMPLES[:2]))
    answers = []
    for number in range(COUNT):
        name = f"scratch/{number}{suffix}"
        lasting.put(name, changed(noise, noise.choice(GOOD[suffix])))
        request = wire.Predict(
            name, "scratch/in.npz", "scratch/out.npz", wire.Runtime(KINDS[suffix]),
            timeout_s=30.0, memory_mib=1024,
        )  # fmt: skip
        answers.append(lasting.ask(request))
    failures = [answer for answer in answers if isinstance(answer, wire.Failed)]
    assert len(failures) > COUNT // 4
    for failed in failures:
        assert failed.kind in {"model", "refused", "crash", "memory", "hang"}, failed
        assert "\n" not in failed.message
        assert 10 < len(failed.message) < 600
    assert lasting.ask(wire.Exists(("scratch/in.npz",))).paths == ("scratch/in.npz",)
