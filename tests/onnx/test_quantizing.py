"""edgeq.quantizers.onnx: every recipe, and the quality of int8."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgeq import processor
from edgeq.errors import ConfigError, DataError, ModelError
from edgeq.formats import onnx as files
from edgeq.quantizers import onnx as quantizer
from edgeq.quantizers.onnx_requantizer import Requantizer
from tests.fakes import tiny_onnx
from tests.onnx import mutants, nets, peer
from tests.onnx.conftest import feeds, samples_for

SETTINGS = [
    peer.Settings(activations="uint8", reduce_range=narrow, calibration="MinMax")
    for narrow in (False, True)
]


def sqnr_db(pivot, artifact, count=64) -> float:
    """On inputs that did not calibrate, as the float model's own types."""
    runner, reference = files.Runner(artifact.path), files.Runner(pivot.path)
    signal = noise = 0.0
    for feed in feeds(pivot, count):
        (want, *_) = reference.run(list(feed.values()))
        given = [quantized(feed[s.name], s) for s in artifact.inputs]
        (got, *_) = runner.run(given)
        (spec, *_) = artifact.outputs
        if spec.scale is not None:
            got = (got.astype(np.float64) - spec.zero_point) * spec.scale
        signal += float((want.astype(np.float64) ** 2).sum())
        noise += float(((want.astype(np.float64) - got) ** 2).sum())
    return 10 * np.log10(signal / noise) if noise else np.inf


def quantized(values, spec):
    if spec.scale is None:
        return values
    limits = np.iinfo(spec.dtype)
    whole = np.rint(values / spec.scale) + spec.zero_point
    return np.clip(whole, limits.min, limits.max).astype(spec.dtype)


@pytest.mark.parametrize("name", nets.ALL)
def test_int8_is_no_worse_than_quantize_static(desk, tmp_path, name):
    source = tmp_path / "source.onnx"
    source.write_bytes(nets.ALL[name]())
    pivot = desk.load_file(source)
    calibration, evaluation = feeds(pivot, 48, seed=1), feeds(pivot, 96, seed=2)
    samples = replace(
        samples_for(pivot),
        inputs=tuple(np.concatenate([f[s.name] for f in calibration]) for s in pivot.inputs),
    )
    artifact = desk.quantize(pivot, samples, reduce_range=processor.overflows())
    reference = peer.session(source.read_bytes())
    ours = peer.sqnr_db(peer.session(artifact.path.read_bytes()), reference, evaluation)
    for settings in SETTINGS:
        theirs = peer.session(peer.quantize_static(source, calibration, settings))
        assert ours > peer.sqnr_db(theirs, reference, evaluation) - 0.05, settings


@pytest.mark.parametrize(
    ("recipe", "least_db"),
    [
        ({}, 30),
        ({"reduce_range": True}, 28),
        ({"weights": "octav"}, 28),
        ({"activations": "int8"}, 30),
        ({"activations": "int8", "symmetric": True}, 28),
        ({"input_dtype": "int8", "output_dtype": "int8"}, 30),
        ({"input_dtype": "uint8", "output_dtype": "uint8"}, 30),
        ({"input_dtype": "int8", "output_dtype": "float32"}, 30),
        ({"activations": "int8", "input_dtype": "int8", "output_dtype": "int8"}, 30),
        ({"precision": "int16x8"}, 32),
        ({"precision": "int8-dynamic"}, 32),
        ({"precision": "int4-weights"}, 8),
        ({"precision": "fp16"}, 60),
        ({"precision": "mixed", "keep_float": ("depthwise",)}, 30),
        ({"precision": "mixed", "keep_float": ("r1", "scores")}, 30),
        ({"precision": "float32"}, 120),
    ],
)
def test_each_recipe_runs_and_keeps_the_answers(desk, recipe, least_db):
    pivot = desk.load(tiny_onnx.conv_net())
    artifact = desk.quantize(pivot, samples_for(pivot), **recipe)
    assert artifact.precision == recipe.get("precision", "int8")
    assert artifact.format == "onnx"
    assert sqnr_db(pivot, artifact) > least_db
    for edges, asked in ((artifact.inputs, "input_dtype"), (artifact.outputs, "output_dtype")):
        assert [spec.dtype for spec in edges] == [recipe.get(asked, "float32")]


@pytest.mark.parametrize("name", nets.ALL)
@pytest.mark.parametrize(
    "precision", ["int16x8", "int8-dynamic", "int4-weights", "fp16", "float32"]
)
def test_each_kind_of_network_takes_each_recipe(desk, name, precision):
    pivot = desk.load(nets.ALL[name]())
    artifact = desk.quantize(pivot, samples_for(pivot, 8), precision=precision)
    assert sqnr_db(pivot, artifact, 8) > (3 if precision == "int4-weights" else 20)


@pytest.mark.parametrize("name", nets.ALL)
@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int4-weights", "fp16"])
def test_onnx_s_own_checker_takes_every_artifact(desk, name, precision):
    pivot = desk.load(nets.ALL[name]())
    artifact = desk.quantize(pivot, samples_for(pivot, 8), precision=precision)
    onnx.checker.check_model(onnx.load(artifact.path))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_whole_numbers_at_the_edges_lose_nothing_but_the_rounding(desk, dtype):
    pivot = desk.load(nets.depthwise())
    samples = samples_for(pivot)
    plain = desk.quantize(pivot, samples)
    whole = desk.quantize(pivot, samples, input_dtype=dtype, output_dtype=dtype)
    assert sqnr_db(pivot, whole) > sqnr_db(pivot, plain) - 1
    (given,), (made,) = whole.inputs, whole.outputs
    noted = json.loads(
        {item.key: item.value for item in files.read(whole.path).metadata_props}["edgeq.io"]
    )
    assert noted == {
        given.name: [given.scale, given.zero_point],
        made.name: [made.scale, made.zero_point],
    }


def test_two_inputs_and_two_outputs_in_whole_numbers(desk):
    pivot = desk.load(nets.pyramid())
    artifact = desk.quantize(pivot, samples_for(pivot), input_dtype="uint8", output_dtype="int8")
    assert [spec.name for spec in artifact.outputs] == ["boxes", "mask"]
    assert {spec.dtype for spec in artifact.outputs} == {"int8"}
    both = desk.load(tiny_onnx.two_in_two_out_model(), "two.onnx")
    made = desk.quantize(both, samples_for(both, 400), input_dtype="int8", output_dtype="int8")
    assert [(s.name, s.dtype) for s in made.inputs] == [("a", "int8"), ("b", "int8")]
    assert sqnr_db(both, made) > 25


def test_signed_and_symmetric_activations_have_zero_points_of_0(desk):
    pivot = desk.load(nets.residual())
    artifact = desk.quantize(pivot, samples_for(pivot), activations="int8", symmetric=True)
    model = files.read(artifact.path)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    zeros = [constants[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zeros)


def test_weights_have_a_scale_per_channel_and_7_bits_where_asked(desk):
    pivot = desk.load(nets.depthwise())
    artifact = desk.quantize(pivot, samples_for(pivot), reduce_range=True)
    model = files.read(artifact.path)
    plain = any(item.key == files.PLAIN_KEY for item in model.metadata_props)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = [value for value in constants.values() if value.dtype == np.int8 and value.ndim == 4]
    assert weights
    assert plain or all(np.abs(value.astype(int)).max() <= 64 for value in weights)
    scaled = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    assert max(constants[node.input[1]].size for node in scaled) == 64


def test_the_same_input_gives_the_same_bytes(desk):
    pivot = desk.load(nets.residual())
    samples = samples_for(pivot)
    for precision in ("int8", "int8-dynamic", "int4-weights", "fp16", "int16x8"):
        one, two = (desk.quantize(pivot, samples, precision=precision) for _ in range(2))
        assert one.sha256 == two.sha256, precision


def test_a_requantizer_gives_what_the_quantizer_gives(desk):
    pivot = desk.load(tiny_onnx.conv_net())
    samples = samples_for(pivot)
    requantizer = Requantizer(pivot, samples)
    kept = requantizer.op_tensors()[2]
    first = desk.quantize(pivot, samples, precision="mixed", keep_float=(kept,))
    from edgeq.ports import Recipe

    requantizer.quantize(Recipe(precision="int8"))
    again = requantizer.quantize(Recipe(precision="mixed", keep_float=(kept,)))
    assert again.content == first.path.read_bytes()


def test_one_file_without_anything_beside_it(desk):
    pivot = desk.load(nets.residual())
    artifact = desk.quantize(pivot, samples_for(pivot))
    assert [path.name for path in artifact.path.parent.iterdir()] == ["model.onnx"]
    files.read(artifact.path)  # which refuses external data


def test_opset_and_ir_stay_under_the_profile_s_limits(desk):
    pivot = desk.load(nets.residual(26, 13))
    artifact = desk.quantize(pivot, samples_for(pivot), opset_max=17, ir_max=7)
    model = files.read(artifact.path)
    assert files.opset(model) == 17
    assert model.ir_version == 7
    with pytest.raises(ModelError, match="needs opset 13"):
        desk.quantize(pivot, samples_for(pivot), opset_max=12)


def test_a_new_opset_becomes_one_that_most_devices_take(desk):
    pivot = desk.load(nets.residual(26, 13))
    model = files.read(desk.quantize(pivot, samples_for(pivot), opset_max=23).path)
    assert files.opset(model) == 20
    assert model.ir_version == 9


def test_without_calibration_int8_becomes_dynamic_and_says_so(desk):
    pivot = desk.load(nets.residual())
    artifact = desk.quantize(pivot, input_dtype="int8", output_dtype="int8")
    assert (artifact.precision, artifact.requested) == ("int8-dynamic", "int8")
    assert artifact.calibration_samples == 0
    assert artifact.warnings[0] == quantizer.NO_CALIBRATION
    assert artifact.inputs[0].dtype == "float32"


@pytest.mark.parametrize("precision", ["mixed", "int16x8"])
def test_fixed_ranges_without_calibration_are_refused(desk, precision):
    pivot = desk.load(nets.residual())
    with pytest.raises(DataError, match="need calibration data"):
        desk.quantize(pivot, precision=precision)


def test_dynamic_convolutions_are_stored_in_8_bits_but_not_multiplied_in_them(desk):
    pivot = desk.load(nets.residual())
    artifact = desk.quantize(pivot, precision="int8-dynamic")
    names = files.op_names(artifact.path)
    assert "ConvInteger" not in names
    assert "MatMulInteger" in names
    assert artifact.size_bytes < 0.4 * pivot.path.stat().st_size
    assert any("several times slower" in warning for warning in artifact.warnings)


def test_an_unknown_name_to_keep_has_the_nearest_as_a_hint(desk):
    pivot = desk.load(tiny_onnx.conv_net())
    with pytest.raises(ConfigError, match="'depthwize'") as caught:
        desk.quantize(pivot, samples_for(pivot), precision="mixed", keep_float=("depthwize",))
    assert "depthwise" in caught.value.hint


def test_a_kept_node_computes_in_float_and_the_report_says_so(desk):
    pivot = desk.load(tiny_onnx.conv_net())
    artifact = desk.quantize(
        pivot, samples_for(pivot), precision="mixed", keep_float=("depthwise",)
    )
    assert artifact.warnings == ("not quantized, still computing in float32: Conv, Relu, Softmax",)
    plain = desk.quantize(pivot, samples_for(pivot))
    assert plain.warnings == ("not quantized, still computing in float32: Softmax",)


def test_recurrent_and_branching_models_survive_every_recipe(desk):
    for name, data in (
        ("lstm", mutants.recurrent_model()),
        ("if", mutants.branching_model()),
    ):
        pivot = desk.load(data, f"{name}.onnx")
        for precision in ("int8", "int8-dynamic", "int16x8", "int4-weights", "fp16", "float32"):
            artifact = desk.quantize(pivot, samples_for(pivot, 8), precision=precision)
            assert sqnr_db(pivot, artifact, 8) > 5, (name, precision)


def test_a_sample_that_the_model_cannot_take_is_named_as_such(desk):
    pivot = desk.load(nets.residual())
    samples = samples_for(pivot)
    samples.inputs[0][3] = 1e38
    with pytest.raises(DataError, match="NaN or infinite"):
        desk.quantize(pivot, samples)


def test_x86_without_vnni_is_known_by_its_flags(tmp_path):
    def overflows(flags: str, machine: str = "x86_64") -> bool:
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor : 0\nflags\t\t: fpu avx2 {flags}\n")
        return processor.overflows(path, machine)

    assert overflows("")
    assert overflows("avx512f")
    assert not overflows("avx512_vnni")
    assert not overflows("avx_vnni")
    assert not overflows("", "aarch64")
    assert processor.overflows(tmp_path / "absent", "x86_64")


def test_16_bit_activations_need_no_7_bit_weights(desk):
    pivot = desk.load(nets.depthwise())
    one, two = (
        desk.quantize(pivot, samples_for(pivot), precision="int16x8", reduce_range=narrow)
        for narrow in (False, True)
    )
    assert one.sha256 == two.sha256
