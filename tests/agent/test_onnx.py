"""The agent with ONNX Runtime: answers, providers, and files that must not be opened."""

import io
import json
import os
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq import wire
from edgeq.agent import probe
from tests.agent.test_predict import SAMPLES, by_hand, packed
from tests.fakes import agent as agents
from tests.fakes import tiny_onnx

RUNTIME = wire.Runtime("onnxruntime")
# More of them, as PYTHON=FOLDER: the program, and where its onnxruntime and numpy are.
OTHERS = [word for word in os.environ.get("EDGEQ_TEST_ONNX_PYTHONS", "").split(os.pathsep) if word]


def predict(agent, model, *arrays, runtime=RUNTIME, **options):
    agent.put("scratch/model.onnx", model)
    agent.put("scratch/in.npz", packed(*arrays))
    request = wire.Predict(
        "scratch/model.onnx", "scratch/in.npz", "scratch/out.npz", runtime, **options
    )
    answer = agent.ask(request)
    if isinstance(answer, wire.Failed):
        return answer
    archive = np.load(io.BytesIO(agent.get("scratch/out.npz")))
    return [archive[str(position)] for position in range(len(archive.files))]


def measure(agent, model, **options):
    agent.put("scratch/model.onnx", model)
    request = wire.Measure(
        "scratch/model.onnx", "", runtime=RUNTIME, processes=1, runs=20, seconds=0.0,
        warmup_s=0.0, idle_s=0.0, sample_hz=0.0,
    )  # fmt: skip
    changed = {**request.__dict__, **options}
    answer = agent.ask(wire.Measure(**changed))
    if isinstance(answer, wire.Measured):
        agent.payload(answer.payload_bytes)
    return answer


def with_scales(model, **scales):
    """The model with edgeq's own metadata."""
    loaded = onnx.load_from_string(model)
    loaded.metadata_props.add(key="edgeq.io", value=json.dumps(scales))
    return loaded.SerializeToString()


def quantized():
    return with_scales(
        tiny_onnx.int8_model(),
        x=[tiny_onnx.INPUT_SCALE, tiny_onnx.INPUT_ZERO_POINT],
        y=[tiny_onnx.OUTPUT_SCALE, tiny_onnx.OUTPUT_ZERO_POINT],
    )


def test_a_float_model_gives_what_is_reckoned_by_hand(lasting):
    (outputs,) = predict(lasting, tiny_onnx.float_model(), SAMPLES)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, by_hand(SAMPLES), rtol=1e-6)


def test_an_int8_model_takes_and_gives_real_values_by_the_scales_it_carries(lasting):
    (outputs,) = predict(lasting, quantized(), SAMPLES[:3])
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, by_hand(SAMPLES[:3]), atol=0.15)


def test_an_int8_model_without_scales_takes_whole_numbers_only(lasting):
    steps = np.array([[17, 37, 57, 77]], np.int8)
    (raw,) = predict(lasting, tiny_onnx.int8_model(), steps, dequantize=False)
    (real,) = predict(lasting, quantized(), SAMPLES[:1])
    assert raw.dtype == np.int8
    np.testing.assert_allclose(
        (raw.astype(np.float32) - tiny_onnx.OUTPUT_ZERO_POINT) * np.float32(0.1), real, rtol=1e-6
    )
    answer = predict(lasting, tiny_onnx.int8_model(), SAMPLES[2:3])
    assert (answer.kind, "is int8, the samples are float32" in answer.message) == ("refused", True)


@pytest.mark.parametrize(
    "scales", ["[]", '{"x": 3}', '{"x": [0, 1]}', '{"x": [NaN, 1]}', "{", '{"x": [1e999, 1]}']
)
def test_scales_that_are_none_are_refused(lasting, scales):
    model = onnx.load_from_string(tiny_onnx.int8_model())
    model.metadata_props.add(key="edgeq.io", value=scales)
    answer = predict(lasting, model.SerializeToString(), SAMPLES)
    assert (answer.kind, "edgeq.io" in answer.message) == ("model", True), answer


def test_half_precision_inputs_and_outputs_are_converted(lasting):
    value = numpy_helper.from_array(np.array([0.5], np.float16), "k")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 4])],
        [value],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    (outputs,) = predict(lasting, model, SAMPLES.astype(np.float16))
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, SAMPLES / 2)
    (outputs,) = predict(lasting, model, SAMPLES)
    np.testing.assert_array_equal(outputs, SAMPLES / 2)


def test_inputs_and_outputs_keep_the_models_order(lasting):
    a, b = np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)
    total, product = predict(lasting, tiny_onnx.two_in_two_out_model(), a, b)
    assert (total.tolist(), product.tolist()) == ((a + b).tolist(), (a * b).tolist())


def test_a_dynamic_batch_is_run_as_one(lasting):
    (outputs,) = predict(lasting, tiny_onnx.dynamic_batch_model(), SAMPLES)
    np.testing.assert_allclose(outputs, by_hand(SAMPLES), rtol=1e-6)


def test_a_fixed_batch_of_more_is_refused(lasting):
    model = tiny_onnx.model(
        [helper.make_node("Neg", ["x"], ["y"])],
        inputs={"x": (3, 4)}, outputs={"y": (3, 4)}, constants={},
    )  # fmt: skip
    answer = predict(lasting, model, SAMPLES)
    assert (answer.kind, "is [3, 4] and cannot be [1, 4]" in answer.message) == ("model", True)


def test_outputs_whose_shape_rests_on_the_values_are_made_anew_for_each_sample(lasting):
    model = tiny_onnx.model(
        [helper.make_node("NonZero", ["x"], ["found"]),
         helper.make_node("Shape", ["found"], ["shape"]),
         helper.make_node("Cast", ["shape"], ["y"], to=TensorProto.FLOAT)],
        inputs={"x": (1, 4)}, outputs={"y": ("count",)}, constants={},
    )  # fmt: skip
    (outputs,) = predict(lasting, model, SAMPLES)
    assert outputs.tolist() == [[2, 4], [2, 0], [2, 4], [2, 4]]
    model = tiny_onnx.model(
        [helper.make_node("NonZero", ["x"], ["found"]),
         helper.make_node("Cast", ["found"], ["y"], to=TensorProto.FLOAT)],
        inputs={"x": (1, 4)}, outputs={"y": (2, "count")}, constants={},
    )  # fmt: skip
    answer = predict(lasting, model, SAMPLES)
    assert (answer.kind, "shape differs by sample" in answer.message) == ("refused", True)


def test_inputs_that_are_no_arrays_of_numbers_are_refused(lasting):
    model = tiny_onnx.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": (1, 4)}, outputs={"y": (1, 4)}, constants={}, dtype=TensorProto.STRING,
    )  # fmt: skip
    answer = predict(lasting, model, SAMPLES)
    assert (answer.kind, "tensor(string)" in answer.message) == ("model", True), answer


@pytest.mark.parametrize("level", ["all", "extended", "basic", "disabled"])
def test_arena_threads_and_optimization_change_no_answer(lasting, level):
    runtime = wire.Runtime("onnxruntime", threads=2, arena=False, graph_optimization=level)
    (outputs,) = predict(lasting, tiny_onnx.float_model(), SAMPLES, runtime=runtime)
    np.testing.assert_allclose(outputs, by_hand(SAMPLES), rtol=1e-6)


def test_a_level_of_optimization_that_is_none_is_refused(lasting):
    runtime = wire.Runtime("onnxruntime", graph_optimization="most")
    answer = predict(lasting, tiny_onnx.float_model(), SAMPLES, runtime=runtime)
    assert (answer.kind, "'most'" in answer.message) == ("model", True)


def test_the_probe_runs_a_model_and_names_the_providers(lasting):
    probed = lasting.ask(wire.Probe(RUNTIME))
    assert (probed.ok, probed.name) == (True, "ONNX Runtime")
    assert "CPU" in probed.providers
    assert tiny_onnx.float_model() == probe.MODELS[".onnx"]


def test_nobody_is_told_about_the_model(start, tmp_path):
    """ONNX Runtime's telemetry leaves a queue in the home folder, where it is not switched off."""
    home = tmp_path / "home"
    home.mkdir()
    agent = start(HOME=str(home), XDG_CACHE_HOME=str(home), ORT_DISABLE_TELEMETRY="0")
    assert predict(agent, tiny_onnx.float_model(), SAMPLES)[0].shape == (4, 3)
    assert list(home.rglob("*")) == []


def test_a_run_on_the_cpu_says_so(lasting):
    (run,) = measure(lasting, tiny_onnx.conv_net()).processes
    assert (run.delegate, run.placements) == ("CPU", ())
    assert run.runs >= 20


def test_a_provider_that_this_build_has_not_is_found_out_by_who_ran_the_nodes(start, tmp_path):
    agent = start(TMPDIR=str(tmp_path))
    wished = ("TensorRT", "CUDA", "XNNPACK", "CPU")
    runtime = wire.Runtime("onnxruntime", providers=wished, graph_optimization="disabled")
    (run,) = measure(agent, tiny_onnx.conv_net(), runtime=runtime).processes
    nodes = len(onnx.load_from_string(tiny_onnx.conv_net()).graph.node)
    assert run.placements == (wire.Placement("CPU", nodes),)
    assert run.delegate == "CPU"
    assert list(tmp_path.glob("edgeq-*")) == []


@pytest.mark.parametrize("where", [f"{sys.executable}={os.environ.get('PYTHONPATH', '')}", *OTHERS])
def test_pythons_with_an_onnxruntime_run_the_same_model(archive, root, where):
    python, _, folder = where.partition("=")
    agent = agents.start(archive, root, python, PYTHONPATH=folder)
    try:
        agent.receive()
        assert agent.ask(wire.Probe(RUNTIME)).ok
        (outputs,) = predict(agent, quantized(), SAMPLES[:3])
        np.testing.assert_allclose(outputs, by_hand(SAMPLES[:3]), atol=0.15)
        runtime = wire.Runtime("onnxruntime", providers=("CUDA",), graph_optimization="disabled")
        (run,) = measure(agent, tiny_onnx.conv_net(), runtime=runtime).processes
        assert (run.delegate, run.placements) == ("CPU", (wire.Placement("CPU", 10),))
        answer = predict(agent, b"no model", SAMPLES)
        assert answer.kind == "model"
    finally:
        agent.kill()
