import io

import numpy as np
import pytest

from edgeq import wire
from edgeq.agent import probe
from tests.fakes import tiny_model

RUNTIME = wire.Runtime("litert")
SAMPLES = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [-1, 0.5, 0.25, -2], [9, -9, 9, -9]], np.float32)


def packed(*arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **{str(position): array for position, array in enumerate(arrays)})
    return buffer.getvalue()


def predict(agent, model, *arrays, **options):
    agent.put("scratch/model.tflite", model)
    agent.put("scratch/in.npz", packed(*arrays))
    answer = agent.ask(
        wire.Predict(
            "scratch/model.tflite", "scratch/in.npz", "scratch/out.npz", RUNTIME, **options
        )
    )
    if isinstance(answer, wire.Failed):
        return answer
    archive = np.load(io.BytesIO(agent.get("scratch/out.npz")))
    return [archive[str(position)] for position in range(len(archive.files))]


def by_hand(samples):
    return samples @ tiny_model.WEIGHTS.T + tiny_model.BIAS


def test_a_float_model_gives_what_is_reckoned_by_hand(lasting):
    (outputs,) = predict(lasting, tiny_model.float_model(), SAMPLES)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, by_hand(SAMPLES), rtol=1e-6)


def test_an_int8_model_takes_and_gives_real_values(lasting):
    (outputs,) = predict(lasting, tiny_model.int8_model(), SAMPLES[:3])
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, by_hand(SAMPLES[:3]), atol=0.15)


def test_real_values_beyond_the_range_are_clipped_not_wrapped(lasting):
    (far,) = predict(lasting, tiny_model.int8_model(), SAMPLES * 1000)
    limits = (np.clip(SAMPLES * 1000, -6.25, 6.5)).astype(np.float32)
    (near,) = predict(lasting, tiny_model.int8_model(), limits)
    np.testing.assert_array_equal(far, near)


def test_raw_outputs_and_quantized_inputs_pass_as_they_are(lasting):
    steps = np.array([[17, 37, 57, 77], [-3, -3, -3, -3]], np.int8)
    (raw,) = predict(lasting, tiny_model.int8_model(), steps, dequantize=False)
    assert raw.dtype == np.int8
    (real,) = predict(lasting, tiny_model.int8_model(), SAMPLES[:2])
    np.testing.assert_allclose(
        (raw.astype(np.float32) - tiny_model.OUTPUT_ZERO_POINT) * np.float32(0.1), real, rtol=1e-6
    )


def test_inputs_and_outputs_keep_the_models_order(lasting):
    a, b = np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)
    total, product = predict(lasting, tiny_model.two_in_two_out_model(), a, b)
    assert (total.tolist(), product.tolist()) == ((a + b).tolist(), (a * b).tolist())


def test_a_dynamic_batch_is_run_as_one(lasting):
    (outputs,) = predict(lasting, tiny_model.dynamic_batch_model(), SAMPLES)
    np.testing.assert_allclose(outputs, by_hand(SAMPLES), rtol=1e-6)


def test_the_same_inputs_give_the_same_bytes(lasting):
    predict(lasting, tiny_model.int8_model(), SAMPLES)
    first = lasting.get("scratch/out.npz")
    predict(lasting, tiny_model.int8_model(), SAMPLES)
    assert lasting.get("scratch/out.npz") == first


def test_whole_numbers_of_another_type_are_converted(lasting):
    (outputs,) = predict(lasting, tiny_model.float_model(), SAMPLES[:2].astype(np.float64))
    np.testing.assert_allclose(outputs, by_hand(SAMPLES[:2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ([SAMPLES[:, :3]], "input 0 (x) takes [1, 4], the sample is [3]"),
        ([SAMPLES, SAMPLES], "the model has 1 inputs, the file 2"),
        ([SAMPLES[:0]], "no samples"),
        ([], "no samples"),
        ([np.float32(3)], "no samples"),
        ([SAMPLES.astype(np.float64) + 1e-12], "is float32, the samples are float64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(lasting, arrays, said):
    answer = predict(lasting, tiny_model.float_model(), *arrays)
    assert (answer.kind, said in answer.message) == ("refused", True), answer


def test_inputs_that_are_no_npz_are_refused(lasting):
    lasting.put("scratch/model.tflite", tiny_model.float_model())
    request = wire.Predict("scratch/model.tflite", "scratch/odd.npz", "scratch/out.npz", RUNTIME)
    assert lasting.ask(request).kind == "missing"
    lasting.put("scratch/odd.npz", b"not a zip")
    assert lasting.ask(request).kind == "refused"
    lasting.put("scratch/odd.npz", packed(np.array([{"a": 1}], dtype=object)))
    assert lasting.ask(request).kind == "refused"


def test_a_model_that_is_none_is_refused_by_the_runtime(lasting):
    for model in (b"", b"not a model", tiny_model.float_model()[:200]):
        answer = predict(lasting, model, SAMPLES)
        assert answer.kind in {"model", "crash"}, answer


def test_a_model_may_be_named_by_an_absolute_path(lasting, tmp_path):
    model = tmp_path / "a model with blanks $(touch x).tflite"
    model.write_bytes(tiny_model.float_model())
    lasting.put("scratch/in.npz", packed(SAMPLES))
    answer = lasting.ask(wire.Predict(str(model), "scratch/in.npz", "scratch/out.npz", RUNTIME))
    assert answer.samples == 4
    answer = lasting.ask(wire.Predict("/none", "scratch/in.npz", "scratch/out.npz", RUNTIME))
    assert answer.kind == "missing"


def test_the_probe_runs_a_model(lasting):
    probed = lasting.ask(wire.Probe(RUNTIME))
    assert (probed.ok, probed.name, probed.numpy_version) == (True, "LiteRT", np.__version__)
    assert probed.version[0].isdigit()


def test_the_probes_model_is_the_tiny_one():
    assert tiny_model.float_model() == probe.MODELS[".tflite"]
