"""The whole way from a model to a verified artifact."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from edgeq import convert, sources, steps, verify, worker
from edgeq.convert import ConvertJob
from edgeq.core.model import FloatModel
from edgeq.core.noise import random_samples
from edgeq.core.profile import Conversion, Profile
from edgeq.core.project import Project
from edgeq.datasets import stored
from edgeq.errors import DataError, GateError, ModelError
from edgeq.formats.tflite import Runner, op_names
from edgeq.places import Places
from edgeq.ports import Recipe
from edgeq.quantizers import tflite as quantizer

pytestmark = pytest.mark.timeout(600)
PROFILE = Profile(description="test")


def predict(path, inputs):
    """What the agent does, in this process."""
    runner = Runner(path)
    outputs = [[] for _ in runner.tensors.outputs]
    for i in range(len(inputs[0])):
        batch = [
            quantized(array[i : i + 1], spec)
            for array, spec in zip(inputs, runner.tensors.inputs, strict=True)
        ]
        for place, array in enumerate(runner.run(batch)):
            outputs[place].append(dequantized(array[0], runner.tensors.outputs[place]))
    return [np.array(rows, np.float32) for rows in outputs]


def quantized(array, spec):
    if spec.scale is None:
        return array
    steps_ = np.rint(array / np.float32(spec.scale)) + spec.zero_point
    return np.clip(steps_, -128, 127).astype(spec.dtype)


def dequantized(array, spec):
    if spec.scale is None:
        return array
    return (array.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)


def quiet(*_):
    pass


@pytest.fixture
def places(tmp_path):
    home = tmp_path / "home"
    return Places(config=home, data=home, cache=home / "cache", log=home / "log")


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("calibration", 20), ("evaluation", 5)):
        for name in ("a", "b", "c"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return tmp_path


def job(model, data, **options):
    return ConvertJob(
        model=model,
        profile=options.pop("profile", PROFILE),
        project=options.pop("project", Project()),
        calibration=data / "calibration" if data else None,
        evaluation=data / "evaluation" if data else None,
        **options,
    )


def pivot_of(loaded, name):
    facts = loaded.outcomes[name]
    return TypeAdapter(FloatModel).validate_python({k: v for k, v in facts.items() if k != "left"})


def test_a_model_is_converted_and_the_second_time_everything_is_cached(loaded, data, places):
    asked = job(loaded.models / "cnn.tflite", data)
    first = convert.convert(asked, places=places, on_progress=quiet)
    checked = verify.verify(first, predict, places=places, on_progress=quiet)
    assert (first.load_cached, first.quantize_cached, checked.cached) == (False, False, False)
    assert (first.artifact.precision, first.artifact.requested) == ("int8", "int8")
    assert first.artifact.calibration_samples == 60
    assert first.evaluation.label_names == ("a", "b", "c")
    assert checked.quality.source == "evaluation"
    assert checked.quality.samples == 15
    assert checked.quality.sqnr_db > 15
    assert [array.shape for array in checked.golden_inputs] == [(8, 8, 8, 3)]
    assert np.array_equal(
        checked.golden_outputs[0], predict(first.artifact.path, checked.golden_inputs)[0]
    )

    def untouched(*_):
        raise AssertionError("the model is run again")

    seen = []
    again = convert.convert(asked, places=places, on_progress=lambda *s: seen.append(s[0]))
    rechecked = verify.verify(again, untouched, places=places, on_progress=quiet)
    assert (again.load_cached, again.quantize_cached, rechecked.cached) == (True, True, True)
    assert again.artifact == first.artifact
    assert rechecked.quality == checked.quality
    assert np.array_equal(rechecked.golden_outputs[0], checked.golden_outputs[0])
    assert seen == ["read"]
    assert "tensorflow" not in sys.modules
    assert "ai_edge_quantizer" not in sys.modules


def test_keras_goes_the_same_way_through_its_own_worker(loaded, data, places):
    asked = job(loaded.models / "cnn_keras2.hdf5", data)
    converted = convert.convert(asked, places=places, on_progress=quiet)
    assert converted.pivot.check_samples == 8
    assert set(converted.pivot.tools) == {"keras", "tensorflow"}
    assert converted.pivot.source.name == "cnn_keras2"
    assert "tensorflow" not in sys.modules
    assert convert.convert(asked, places=places, on_progress=quiet).load_cached
    anew = replace(places, cache=places.cache.with_name("other"))
    again = convert.convert(asked, places=anew, on_progress=quiet)
    assert not again.load_cached
    assert again.pivot.sha256 == converted.pivot.sha256
    assert again.artifact.sha256 == converted.artifact.sha256


def test_changed_data_settings_or_precision_make_a_new_artifact(loaded, data, places):
    model = loaded.models / "cnn.tflite"
    first = convert.convert(job(model, data), places=places, on_progress=quiet)
    fewer = Project.model_validate({"calibration": {"samples": 33}})
    scaled = Project.model_validate({"input": {"scale": 0.5}})
    others = [
        convert.convert(job(model, data, project=fewer), places=places, on_progress=quiet),
        convert.convert(job(model, data, project=scaled), places=places, on_progress=quiet),
        convert.convert(job(model, data, precision="fp16"), places=places, on_progress=quiet),
    ]
    assert others[0].artifact.calibration_samples == 33
    assert others[0].spare.count == 27
    assert not any(other.quantize_cached for other in others)
    assert len({c.artifact.path for c in (first, *others)}) == 4


def test_without_calibration_data_int8_becomes_int8_dynamic_and_says_so(loaded, places):
    converted = convert.convert(
        job(loaded.models / "cnn.tflite", None), places=places, on_progress=quiet
    )
    assert converted.artifact.precision == "int8-dynamic"
    assert converted.artifact.requested == "int8"
    assert "no calibration data" in converted.warnings[0]
    assert "--calibration PATH" in converted.warnings[0]
    checked = verify.verify(converted, predict, places=places, on_progress=quiet)
    assert checked.quality.source == "random"
    assert checked.golden_inputs[0].shape == (8, 8, 8, 3)


def test_calibration_data_verifies_what_has_no_evaluation_data(loaded, data, places):
    asked = ConvertJob(
        model=loaded.models / "cnn.tflite",
        profile=PROFILE,
        project=Project.model_validate({"calibration": {"samples": 50}}),
        calibration=data / "calibration",
    )
    converted = convert.convert(asked, places=places, on_progress=quiet)
    quality = verify.verify(converted, predict, places=places, on_progress=quiet).quality
    assert (quality.source, quality.samples) == ("calibration", 10)
    assert quality.float_accuracy is None


def test_paths_in_edgeq_toml_are_beside_the_model(loaded, data, places):
    model = data / "cnn.tflite"
    model.write_bytes((loaded.models / "cnn.tflite").read_bytes())
    (data / "edgeq.toml").write_text(
        '[calibration]\npath = "calibration"\n[evaluation]\npath = "evaluation"\n'
    )
    asked = ConvertJob(model=model, profile=PROFILE, project=sources.read_project(model))
    converted = convert.convert(asked, places=places, on_progress=quiet)
    assert converted.calibration.count == 60
    assert converted.evaluation.count == 15


def test_nan_in_the_data_stops_before_quantizing(loaded, places, tmp_path):
    array = np.zeros((40, 8, 8, 3), np.float32)
    array[11] = np.nan
    np.savez(tmp_path / "bad.npz", features=array)
    asked = ConvertJob(
        model=loaded.models / "cnn.tflite",
        profile=PROFILE,
        project=Project(),
        calibration=tmp_path / "bad.npz",
    )
    with pytest.raises(DataError, match=r"sample 11 of .*bad.npz has NaN"):
        convert.convert(asked, places=places, on_progress=quiet)


def test_missing_data_is_refused_before_the_model_is_loaded(loaded, places, tmp_path):
    with pytest.raises(DataError, match="there is no"):
        convert.convert(
            job(loaded.models / "cnn.h5", tmp_path / "missing"), places=places, on_progress=quiet
        )
    assert not places.cache.exists()


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_the_artifacts_own_tensors_are_as_the_profile_says(loaded, tmp_path, dtype):
    pivot = pivot_of(loaded, "cnn.tflite")
    artifact = quantize(
        pivot, tmp_path, Recipe(precision="int8", input_dtype=dtype, output_dtype=dtype)
    )
    assert [spec.dtype for spec in (*artifact.inputs, *artifact.outputs)] == [dtype, dtype]
    assert (artifact.inputs[0].scale is None) == (dtype == "float32")
    assert ("QUANTIZE" in op_names(artifact.path)) == (dtype == "float32")


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "fp16", "float32"])
@pytest.mark.parametrize(
    "name", ["mobilenet.h5", "streaming.h5", "autoencoder.h5", "two_by_two.keras", "tokens.keras"]
)
def test_each_precision_gives_about_the_pivots_answers(loaded, tmp_path, name, precision):
    pivot = pivot_of(loaded, name)
    artifact = quantize(pivot, tmp_path, Recipe(precision=precision))
    inputs = list(noise(pivot).inputs)
    typed = [a.astype(s.dtype) for a, s in zip(inputs, pivot.inputs, strict=True)]
    for one, other in zip(predict(pivot.path, typed), predict(artifact.path, typed), strict=True):
        assert np.abs(one - other).max() <= 0.1 * max(np.abs(one).max(), 0.5)
    assert artifact.size_bytes <= pivot.path.stat().st_size or precision != "float32"


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_another_process_makes_the_same_bytes(loaded, tmp_path, precision):
    pivot = pivot_of(loaded, "mobilenet.h5")
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    stored.write(noise(pivot), there)
    request = steps.QuantizeRequest(
        pivot=pivot, recipe=Recipe(precision=precision), calibration=there, folder=there
    )
    elsewhere = worker.call(steps.quantize, request, log=tmp_path / "log")
    assert quantize(pivot, here, request.recipe).sha256 == elsewhere.sha256


@pytest.mark.parametrize("name", ["recurrent.keras", "unrolled.keras"])
def test_a_loop_is_refused_with_the_precisions_that_do(loaded, tmp_path, name):
    pivot = pivot_of(loaded, name)
    with pytest.raises(ModelError, match="cannot be quantized to int8") as caught:
        quantize(pivot, tmp_path, Recipe(precision="int8"))
    assert "it has recurrent layers" in caught.value.message
    assert caught.value.hint == "--precision int8-dynamic or fp16 or float32"
    assert quantize(pivot, tmp_path, Recipe(precision="int8-dynamic")).size_bytes > 0


def test_the_model_for_an_int8_profile_is_asked_for(loaded, data, places):
    profile = Profile(
        description="x", conversion=Conversion(input_dtype="int8", output_dtype="int8")
    )
    asked = job(loaded.models / "cnn.tflite", data, profile=profile)
    converted = convert.convert(asked, places=places, on_progress=quiet)
    assert converted.artifact.inputs[0].dtype == "int8"
    quality = verify.verify(converted, predict, places=places, on_progress=quiet).quality
    assert quality.sqnr_db > 15


def test_an_int8_file_that_litert_cannot_run_misses_a_gate(loaded, tmp_path):
    pivot = pivot_of(loaded, "unpreparable.keras")
    with pytest.raises(
        GateError, match=r"int8 of unpreparable.keras cannot run in LiteRT"
    ) as caught:
        quantize(pivot, tmp_path, Recipe(precision="int8"))
    assert "LiteRT cannot load" not in caught.value.message
    assert caught.value.hint == "--precision int8-dynamic or fp16 or float32"


@pytest.mark.parametrize("name", ["tokens.keras", "tokens.tflite"])
def test_a_sample_that_the_model_rejects_is_a_matter_of_the_data(loaded, places, tmp_path, name):
    if name == "tokens.tflite":
        source = pivot_of(loaded, "tokens.keras").path
        (tmp_path / name).write_bytes(source.read_bytes())
    words = np.zeros((40, 6), np.int32)
    words[5] = 7_000_000
    np.savez(tmp_path / "words.npz", features=words)
    asked = ConvertJob(
        model=(tmp_path if name == "tokens.tflite" else loaded.models) / name,
        profile=PROFILE,
        project=Project(),
        calibration=tmp_path / "words.npz",
    )
    with pytest.raises(DataError, match=r"rejects .*sample 5 of ") as caught:
        convert.convert(asked, places=places, on_progress=quiet)
    assert "Exception encountered" not in caught.value.message


def test_a_name_in_the_model_that_is_no_text_is_damage(loaded, tmp_path):
    pivot = pivot_of(loaded, "cnn.tflite")
    damaged = tmp_path / "pivot.tflite"
    damaged.write_bytes(pivot.path.read_bytes().replace(b"image", b"\xff\xfemag"))
    with pytest.raises(ModelError, match="is damaged"):
        quantize(replace(pivot, path=damaged), tmp_path, Recipe(precision="int8"))


def test_a_float_model_that_guesses_is_told(loaded, places, tmp_path):
    pixels = np.random.default_rng(1).random((40, 8, 8, 3)).astype(np.float32)
    answers = predict(loaded.models / "cnn.tflite", [pixels])[0].argmax(axis=1)
    for name, labels in (("right", answers), ("wrong", (answers + 1) % 3)):
        np.savez(tmp_path / f"{name}.npz", features=pixels, labels=labels)
        asked = ConvertJob(
            model=loaded.models / "cnn.tflite",
            profile=PROFILE,
            project=Project(),
            evaluation=tmp_path / f"{name}.npz",
        )
        converted = convert.convert(asked, places=places, on_progress=quiet)
        said = verify.verify(converted, predict, places=places, on_progress=quiet).warnings
        assert bool(said) == (name == "wrong")
    assert "right on only 0% of 40 samples" in said[0]


def test_warnings_name_the_data_as_it_is_called_this_time(loaded, data, places):
    (data / "calibration" / "a" / "notes.txt").write_text("x")
    model = loaded.models / "cnn.tflite"
    convert.convert(job(model, data), places=places, on_progress=quiet)
    moved = data / "moved"
    moved.mkdir()
    (data / "calibration").rename(moved / "calibration")
    (data / "evaluation").rename(moved / "evaluation")
    said = convert.convert(job(model, moved), places=places, on_progress=quiet).warnings
    assert f"{moved / 'calibration'} holds 1 files that are no images" in " | ".join(said)
    assert not any(text.startswith(f"{data / 'calibration'} ") for text in said)


def test_an_empty_class_folder_added_later_shifts_the_labels(loaded, data, places):
    asked = job(loaded.models / "cnn.tflite", data)
    convert.convert(asked, places=places, on_progress=quiet)
    (data / "evaluation" / "aa").mkdir()
    again = convert.convert(asked, places=places, on_progress=quiet)
    assert sorted(set(again.evaluation.labels.tolist())) == [0, 2, 3]
    said = " | ".join(again.warnings)
    assert "has class folders without images: aa" in said
    assert "the evaluation data has 4 class folders, the model 3 classes" in said


def quantize(pivot, folder, recipe):
    """In this process: what the worker runs."""
    return quantizer.make().quantize(pivot, recipe, noise(pivot), folder)


def noise(pivot):
    return random_samples(pivot.inputs, 64)


SHARED = os.environ.get("EDGEQ_SHARED_DATA", "")
shared = pytest.mark.skipif(
    not SHARED, reason="EDGEQ_SHARED_DATA names no folder with models/ and data/"
)


@shared
def test_resnet8_keeps_its_accuracy_and_is_3_2_times_smaller(places):
    root = Path(SHARED)
    asked = ConvertJob(
        model=root / "models" / "resnet8_cifar10.h5",
        profile=PROFILE,
        project=Project(),
        calibration=root / "data" / "cifar10" / "calibration",
        evaluation=root / "data" / "cifar10" / "eval",
    )
    converted = convert.convert(asked, places=places, on_progress=quiet)
    quality = verify.verify(converted, predict, places=places, on_progress=quiet).quality
    assert converted.pivot.path.stat().st_size / converted.artifact.size_bytes >= 3.2
    assert quality.accuracy_drop <= 0.01
    evaluation = converted.evaluation
    reference = predict(
        root / "models" / "resnet8_cifar10_reference_int8.tflite", evaluation.inputs
    )[0]
    theirs = np.mean(reference.argmax(axis=1) == evaluation.labels)
    assert quality.artifact_accuracy >= theirs - 0.005


@shared
def test_keyword_spotting_keeps_its_accuracy(places):
    root = Path(SHARED)
    asked = ConvertJob(
        model=root / "models" / "kws_saved_model",
        profile=PROFILE,
        project=Project(),
        calibration=root / "data" / "kws01" / "calibration.npz",
        evaluation=root / "data" / "kws01" / "eval.npz",
    )
    converted = convert.convert(asked, places=places, on_progress=quiet)
    quality = verify.verify(converted, predict, places=places, on_progress=quiet).quality
    assert quality.artifact_accuracy >= 0.905
