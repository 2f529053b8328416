import os
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.graph import liveness_peak, parameter_count
from edgeq.core.inspection import ModelSection
from edgeq.errors import ModelError
from edgeq.inspection import facts, tflite
from edgeq.inspection.facts import Wanted
from tests.fakes import tiny_model

SHARED = os.environ.get("EDGEQ_SHARED_DATA", "")
needs_shared = pytest.mark.skipif(
    not SHARED, reason="EDGEQ_SHARED_DATA names no folder with models/ and data/"
)
SECTION = ModelSection(
    source="m", kind="tflite", format="tflite", size_bytes=1, sha256="", pivot=False
)
PI4 = Wanted(profile="pi4", runtime="litert", precision="int8", optimization="all")


def read(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    return tflite.read(path)


def inspected(path, wanted=None):
    return facts.inspection(SECTION, tflite.read(path), wanted)


@pytest.mark.parametrize("name", ["net", "lstm"])
def test_parameters_are_those_that_keras_counts(built, name):
    assert inspected(built.folder / f"{name}.tflite").parameters == built.parameters[name]
    assert (
        built.parameters["net"]
        == 8 * 18 + 8 + 8 * 9 + 8 + 8 * 8 + 8 + 6 * 8 * 9 + 6 + 6 * 7 + 7 + 7 * 5 + 5
    )


def test_macs_are_those_of_the_layers_formulas(built):
    found = inspected(built.folder / "net.tflite")
    by_kind = {kind.kind: kind.macs for kind in found.kinds}
    grouped, pointwise = 6 * 6 * 8 * (3 * 3 * 2), 6 * 6 * 8 * 8
    assert by_kind["CONV_2D"] == grouped + pointwise
    assert by_kind["DEPTHWISE_CONV_2D"] == 6 * 6 * 8 * (3 * 3)
    assert by_kind["TRANSPOSE_CONV"] == 6 * 6 * 8 * (3 * 3 * 6)
    assert by_kind["FULLY_CONNECTED"] == 6 * 7 + 7 * 5
    assert by_kind["ADD"] == by_kind["SOFTMAX"] == 0
    assert found.macs.total == found.macs.counted == sum(by_kind.values())


def test_int8_keeps_the_counts_and_takes_a_quarter_of_the_memory(built):
    plain, packed = (inspected(built.folder / f"{n}.tflite") for n in ("net", "net_int8"))
    assert packed.parameters == plain.parameters
    assert packed.macs == plain.macs
    assert packed.activations.peak_bytes * 4 == plain.activations.peak_bytes
    weights = {entry.dtype: entry for entry in packed.weights}
    multiplied = 8 * 18 + 8 * 9 + 8 * 8 + 6 * 8 * 9 + 6 * 7 + 7 * 5
    assert weights["int8"].size_bytes == multiplied
    assert packed.float_operators == ()


def test_scales_are_those_that_the_interpreter_tells(built):
    from ai_edge_litert.interpreter import Interpreter

    path = built.folder / "net_int8.tflite"
    details = Interpreter(str(path)).get_tensor_details()
    for number, (tensor, detail) in enumerate(
        zip(tflite.read(path).tensors, details, strict=False)
    ):
        scales = detail["quantization_parameters"]["scales"]
        mine = tensor.quantization.scales if tensor.quantization else ()
        assert (number, tensor.name) == (detail["index"], detail["name"])
        assert np.array_equal(np.float32(mine), scales)


def test_what_a_loop_multiplies_is_unknown_and_says_so(built):
    found = inspected(built.folder / "lstm.tflite", PI4)
    assert found.macs.total is None
    assert found.macs.counted == 4 * 2  # the dense layer after it
    assert found.unavailable["macs.total"] == "not counted: WHILE"
    assert any("inner graphs" in note for note in found.notes)
    assert "WHILE" in found.runtime.lacking


def test_a_branch_gets_what_it_reads_from_outside_as_inputs(built):
    """So what lives until it runs is known from the main graph alone."""
    net = tflite.read(built.folder / "branch.tflite")
    place = next(i for i, op in enumerate(net.ops) if op.kind == "IF")
    source = net.tensors[net.inputs[0]]
    assert net.inputs[0] in net.ops[place].inputs
    assert source.size_bytes == 4 * 64
    # the image lives until the branch has read it, beside its result of four times the size
    assert liveness_peak(net).op == place
    assert liveness_peak(net).size_bytes == 4 * (64 + 4 * 64) + 1


def test_names_shapes_and_scales_of_the_edges(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_model.int8_model())
    found = inspected(path)
    (source,), (result,) = found.inputs, found.outputs
    assert (source.name, source.shape, source.dtype) == ("x", (1, 4), "int8")
    assert source.quantization.scale_min == pytest.approx(tiny_model.INPUT_SCALE)
    assert result.quantization.zero_point_min == tiny_model.OUTPUT_ZERO_POINT
    assert found.macs.total == 12
    assert found.parameters == 12 + 3


def test_an_open_batch_is_said_and_taken_as_one(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_model.dynamic_batch_model())
    found = inspected(path)
    assert found.open_axes == ("axis 0 of x",)
    assert found.macs.total == 12
    assert "the batch is open; all figures are for a batch of 1" in found.notes


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 100)
    with pytest.raises(ModelError, match="its flatbuffer cannot be read"):
        tflite.read(path)


@needs_shared
@pytest.mark.parametrize(
    ("name", "parameters", "macs", "peak"),
    # MLPerf Tiny: ResNet-8 has 78,666 parameters with batch normalization, which is 4 for each of
    # its 240 channels and folded into the weights here, and 12.5 million multiply-accumulates
    [
        ("resnet8_cifar10_reference_int8", 78_666 - 4 * 240, 12_501_632, 49_152),
        ("kws_reference_int8", 22_604, 2_656_768, 16_000),
    ],
)
def test_the_figures_of_published_models(name, parameters, macs, peak):
    net = tflite.read(Path(SHARED) / "models" / f"{name}.tflite")
    assert parameter_count(net) == parameters
    assert sum(op.macs for op in net.ops) == macs
    assert liveness_peak(net).size_bytes == peak
