"""Every recipe of the .tflite quantizer, on small nets that LiteRT runs."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgeq.core.samples import Samples
from edgeq.errors import ConfigError, DataError
from edgeq.formats.tflite_graph import Graph
from edgeq.ports import Recipe
from edgeq.quantizers import tflite, tflite_ranges
from edgeq.quantizers.tflite_requantizer import Requantizer
from tests.fakes import small_nets

TYPES = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
FLOAT_BOUNDARIES = [
    {"regex": "", "operation": name, "algorithm_key": "no_quantize", "op_config": {}}
    for name in ("INPUT", "OUTPUT")
]
WEIGHT_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@pytest.fixture(scope="module")
def pivot(tmp_path_factory):
    return small_nets.pivot(small_nets.separable(), tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def samples(pivot):
    return small_nets.samples(pivot)


@pytest.fixture(scope="module")
def requantizer(pivot, samples):
    return Requantizer(pivot, samples)


def ops_of(content):
    """Kind of op, and the types of its inputs and outputs, as the file has them."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    return [
        (
            flatbuffer_utils.opcode_to_name(model, op.opcodeIndex),
            [TYPES[graph.tensors[i].type] for i in op.inputs],
            [TYPES[graph.tensors[i].type] for i in op.outputs],
        )
        for op in graph.operators
    ]


def boundary(content):
    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    return tuple(TYPES[graph.tensors[i].type] for i in (graph.inputs[0], graph.outputs[0]))


@pytest.mark.parametrize(
    ("precision", "weights", "bias", "activation"),
    [
        ("int8", "INT8", "INT32", "INT8"),
        ("int16x8", "INT8", "INT64", "INT16"),
        ("int8-dynamic", "INT8", "FLOAT32", "FLOAT32"),
        ("fp16", "FLOAT32", "FLOAT32", "FLOAT32"),
        ("float32", "FLOAT32", "FLOAT32", "FLOAT32"),
    ],
)
def test_each_precision_has_its_types(requantizer, precision, weights, bias, activation):
    content = requantizer.quantize(Recipe(precision=precision))
    for name, inputs, outputs in ops_of(content):
        if name in WEIGHT_OPS:
            assert inputs == [activation, weights, bias]
            assert outputs == [activation]
    assert boundary(content) == ("FLOAT32", "FLOAT32")


def test_half_precision_stores_its_weights_in_16_bits(requantizer):
    ops = ops_of(requantizer.quantize(Recipe(precision="fp16")))
    assert [inputs for name, inputs, _ in ops if name == "DEQUANTIZE"] == [["FLOAT16"]] * 4


def test_int4_goes_where_a_kernel_takes_it_and_int8_elsewhere(requantizer):
    ops = ops_of(requantizer.quantize(Recipe(precision="int4-weights")))
    weights = {name: inputs[1] for name, inputs, _ in ops if name in WEIGHT_OPS}
    assert weights == {"CONV_2D": "INT4", "DEPTHWISE_CONV_2D": "INT8", "FULLY_CONNECTED": "INT4"}


def test_int4_says_that_tflite_runtime_refuses_it(pivot, tmp_path):
    made = tflite.make().quantize(pivot, Recipe(precision="int4-weights"), None, tmp_path)
    assert "tflite-runtime refuses them" in made.warnings[0]


def test_more_bits_are_closer_to_the_float_model(pivot, samples, requantizer):
    inputs = samples.inputs[0]
    expected = small_nets.answers(pivot.path.read_bytes(), inputs)

    def sqnr_db(precision):
        content = requantizer.quantize(Recipe(precision=precision))
        return small_nets.sqnr_db(expected, small_nets.answers(content, inputs))

    four, eight, sixteen = sqnr_db("int4-weights"), sqnr_db("int8"), sqnr_db("int16x8")
    assert 8 < four < eight < sixteen < sqnr_db("fp16") < sqnr_db("float32") == float("inf")
    assert eight > 28
    assert sqnr_db("int8-dynamic") > eight - 3


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_full_integer_model_gives_the_same_answers(samples, requantizer, dtype):
    whole = requantizer.quantize(Recipe(precision="int8", input_dtype=dtype, output_dtype=dtype))
    assert boundary(whole) == (dtype.upper(), dtype.upper())
    assert not [op for op in ops_of(whole) if "FLOAT32" in (*op[1], *op[2])]
    plain = requantizer.quantize(Recipe(precision="int8"))
    inputs = samples.inputs[0]
    np.testing.assert_allclose(
        small_nets.answers(whole, inputs), small_nets.answers(plain, inputs), atol=1e-6
    )


def test_input_and_output_may_differ(requantizer):
    recipe = Recipe(precision="int8", input_dtype="uint8", output_dtype="float32")
    assert boundary(requantizer.quantize(recipe)) == ("UINT8", "FLOAT32")


def test_the_artifact_tells_the_scales_of_whole_inputs(pivot, samples, tmp_path):
    recipe = Recipe(precision="int8", input_dtype="uint8", output_dtype="uint8")
    made = tflite.make().quantize(pivot, recipe, samples, tmp_path)
    assert made.inputs[0].dtype == made.outputs[0].dtype == "uint8"
    assert made.outputs[0].scale == pytest.approx(1 / 256)  # a softmax is 0 to 1
    assert made.outputs[0].zero_point == 0
    low, high = (float(f(samples.inputs[0])) for f in (np.min, np.max))
    assert made.inputs[0].scale == pytest.approx((high - low) / 255, rel=0.4)


def test_mixed_keeps_just_the_named_ops_in_float(requantizer):
    names = requantizer.op_tensors()
    kept = next(name for name in names if name.startswith("depthwise"))
    content = requantizer.quantize(Recipe(precision="mixed", keep_float=(kept,)))
    types = {name: inputs[0] for name, inputs, _ in ops_of(content) if name in WEIGHT_OPS}
    assert types == {"CONV_2D": "INT8", "DEPTHWISE_CONV_2D": "FLOAT32", "FULLY_CONNECTED": "INT8"}


def test_a_constants_name_means_the_op_that_reads_it(requantizer):
    recipe = Recipe(precision="mixed", keep_float=("weights_1",))
    first = next(op for op in ops_of(requantizer.quantize(recipe)) if op[0] == "CONV_2D")
    assert first[1] == ["FLOAT32", "FLOAT32", "FLOAT32"]


def test_a_float_last_op_can_still_answer_in_int8(requantizer):
    last = requantizer.op_tensors()[-1]
    recipe = Recipe(precision="mixed", keep_float=(last,), output_dtype="int8")
    content = requantizer.quantize(recipe)
    assert boundary(content) == ("FLOAT32", "INT8")
    softmax = next(op for op in ops_of(content) if op[0] == "SOFTMAX")
    assert softmax[1:] == (["FLOAT32"], ["FLOAT32"])


def test_every_op_kept_in_float_is_the_float_model(pivot, samples, requantizer):
    recipe = Recipe(precision="mixed", keep_float=requantizer.op_tensors())
    inputs = samples.inputs[0]
    np.testing.assert_array_equal(
        small_nets.answers(requantizer.quantize(recipe), inputs),
        small_nets.answers(pivot.path.read_bytes(), inputs),
    )


def test_an_unknown_name_is_refused_with_the_near_ones(requantizer):
    with pytest.raises(ConfigError, match="keep_float names conv_2d_33") as caught:
        requantizer.quantize(Recipe(precision="mixed", keep_float=("conv_2d_33",)))
    assert "near it: conv_2d_3" in caught.value.hint


def test_mixed_without_a_name_is_refused(requantizer):
    with pytest.raises(ConfigError, match="none is named"):
        requantizer.quantize(Recipe(precision="mixed"))


@pytest.mark.parametrize("precision", ["int16x8", "mixed"])
def test_fixed_ranges_need_data(pivot, tmp_path, precision):
    recipe = Recipe(precision=precision, keep_float=("weights_1",) if precision == "mixed" else ())
    with pytest.raises(DataError, match="there is none") as caught:
        tflite.make().quantize(pivot, recipe, None, tmp_path)
    assert "--calibration PATH" in caught.value.hint


def test_octav_clips_weights_that_have_outliers(tmp_path):
    random = np.random.default_rng(2)
    net = small_nets.Net(1, 6, 6, 4)
    weights = random.normal(0, 0.1, (4, 3, 3, 4))
    weights[:, 0, 0, 0] = 1.2
    net.conv(weights, activation=small_nets.NONE)
    pivot = small_nets.pivot(net.content(), tmp_path)
    requantizer = Requantizer(pivot, small_nets.samples(pivot))
    scales = [
        weight_scales(requantizer.quantize(Recipe(precision="int8", weights=weights)))
        for weights in ("minmax", "octav")
    ]
    np.testing.assert_allclose(scales[0], 1.2 / 127, rtol=1e-5)
    assert np.all(scales[1] < scales[0])


def weight_scales(content):
    model = flatbuffer_utils.read_model_from_bytearray(content)
    tensor = next(t for t in model.subgraphs[0].tensors if t.name.startswith(b"weights"))
    return np.asarray(tensor.quantization.scale)


def test_the_same_recipe_gives_the_same_bytes(pivot, samples, requantizer):
    recipe = Recipe(precision="int8", equalize=True, correct_bias=True, weights="octav")
    assert requantizer.quantize(recipe) == Requantizer(pivot, samples).quantize(recipe)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve:UserWarning")
def test_rare_values_are_cut_off_where_that_lowers_the_noise(tmp_path):
    """One reading of 40 samples is wild, and a RELU6 hides it from the outputs."""
    from ai_edge_quantizer import quantizer, recipe  # late: another test shows who imports it

    random = np.random.default_rng(4)
    net = small_nets.Net(1, 16, 16, 4)
    net.conv(random.normal(0, 0.4, (8, 3, 3, 4)), activation=small_nets.RELU6)
    net.mean()
    pivot = small_nets.pivot(net.content(), tmp_path)
    values = random.normal(0, 1, (60, 16, 16, 4)).astype(np.float32)
    values[3, 5, 5, 2] = 2000.0
    calibration, others = (
        Samples(inputs=(part,), origin="a test", sha256="") for part in (values[:40], values[40:])
    )
    expected = small_nets.answers(pivot.path.read_bytes(), others.inputs[0])
    chosen = Requantizer(pivot, calibration).quantize(Recipe(precision="int8"))
    ranges = tflite_ranges.measure(pivot.path.read_bytes(), [(x[None],) for x in values[:40]])
    rules = [*recipe.static_wi8_ai8(), *FLOAT_BOUNDARIES]
    widest = quantizer.Quantizer(pivot.path.read_bytes(), rules).quantize(
        tflite_ranges.by_rule(ranges, "minmax"), enable_progress_report=False
    )
    cut, uncut = (
        small_nets.sqnr_db(expected, small_nets.answers(bytes(content), others.inputs[0]))
        for content in (chosen, widest.quantized_model)
    )
    assert cut > uncut + 10


def test_ranges_are_those_of_the_float_tensors(pivot, samples):
    content = pivot.path.read_bytes()
    measured = tflite_ranges.measure(content, [(x[None],) for x in samples.inputs[0]])
    inputs = samples.inputs[0]
    assert measured["x"].seen.range.low == inputs.min()
    assert measured["x"].seen.range.high == inputs.max()
    assert measured["x"].seen.counts.sum() == inputs.size
    last = small_nets.answers(content, inputs)
    found = measured[Graph(content).tensors[-1].name].seen.range
    assert (found.low, found.high) == (np.float32(last.min()), np.float32(last.max()))


def test_a_sample_that_makes_nan_is_a_matter_of_the_data(pivot, samples):
    inputs = samples.inputs[0].copy()
    inputs[7] = np.nan
    with pytest.raises(DataError, match="NaN"):
        Requantizer(pivot, replace(samples, inputs=(inputs,))).quantize(Recipe(precision="int8"))
