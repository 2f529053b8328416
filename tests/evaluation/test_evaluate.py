"""Real models on real agents of this machine; every figure against one reckoned here."""

import contextlib
import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from edgeq import here
from edgeq.core.evaluation import Evaluation
from edgeq.core.gates import Limits
from edgeq.core.profile import Profile
from edgeq.core.project import Project
from edgeq.errors import DataError, ModelError, UsageError
from edgeq.evaluation import steps
from edgeq.evaluation.evaluate import EvaluateJob, evaluate
from edgeq.evaluation.passes import Machines, Paced
from edgeq.evaluation.steps import FindRequest, ScoreRequest
from edgeq.evaluation.subjects import SubjectsJob
from edgeq.formats.onnx import Runner as OnnxRunner
from edgeq.formats.tflite import Runner as TfliteRunner

METRICS = '''
import numpy as np


def mean_error(outputs, labels):
    """Distance of the label's score from the best one, as a dict and with a figure not finite."""
    scores = outputs[0]
    lost = scores.max(axis=1) - np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return {"mean": lost.mean(), "worst": float(lost.max()), "undefined": float("nan")}


def rows(outputs, labels):
    return len(outputs[0])


def words(outputs, labels):
    return "many"
'''


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def ours(places):
    with here.lazy_predictor(places) as predict:
        yield predict


@pytest.fixture
def run(places, ours):
    def run(model, artifact=None, *, data, format_="tflite", **options):
        job = EvaluateJob(
            subjects=SubjectsJob(
                model=model,
                artifact=artifact,
                data=data,
                project=options.pop("project", Project()),
                profile=Profile(description="test"),
                format=format_,
                trust=False,
            ),
            limits=options.pop("limits", Limits()),
            **options,
        )

        @contextlib.contextmanager
        def connect(_):
            yield Machines(float_model=ours, float_on="host", artifact=ours, artifact_on="host")

        return evaluate(job, connect, places, quiet)

    return run


def outputs_of(path, samples):
    """The model's own answers, one sample at a time, in real numbers."""
    runner = (TfliteRunner if path.suffix == ".tflite" else OnnxRunner)(path)
    spec, out = runner.tensors.inputs[0], runner.tensors.outputs[0]
    rows = []
    for sample in samples:
        fed = sample[None]
        if spec.scale:
            steps = np.rint(fed / np.float32(spec.scale)) + spec.zero_point
            fed = steps.clip(-128, 127).astype(np.int8)
        answer = runner.run([fed])[0][0]
        if out.scale:
            answer = (answer.astype(np.float32) - out.zero_point) * np.float32(out.scale)
        rows.append(answer)
    return np.array(rows, np.float32)


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_every_figure_is_that_of_the_models_own_answers(run, models, labelled, features, suffix):
    one, other = models / f"float.{suffix}", models / f"int8.{suffix}"
    found = run(one, other, data=labelled, format_=suffix)
    samples, labels = features
    mine, theirs = outputs_of(one, samples), outputs_of(other, samples)
    for scores, rows in ((found.float_scores, mine), (found.artifact_scores, theirs)):
        chosen = rows.argmax(axis=1)
        assert scores.top1_accuracy == sklearn_metrics.accuracy_score(labels, chosen)
        expected = sklearn_metrics.confusion_matrix(labels, chosen)
        assert np.array_equal(np.array(scores.confusion), expected)
    compared = found.comparison
    wide, wider = mine.astype(np.float64), theirs.astype(np.float64)
    noise = ((wide - wider) ** 2).sum()
    assert compared.sqnr_db == pytest.approx(10 * np.log10((wide**2).sum() / noise), rel=1e-12)
    assert compared.max_abs_error == np.abs(wide - wider).max()
    agreed = mine.argmax(axis=1) == theirs.argmax(axis=1)
    assert compared.agreement == agreed.mean()
    right = [rows.argmax(axis=1) == labels for rows in (mine, theirs)]
    assert compared.lost == (right[0] & ~right[1]).sum()
    assert compared.gained == (right[1] & ~right[0]).sum()
    assert compared.accuracy_drop == pytest.approx(right[0].mean() - right[1].mean())
    assert compared.drop_ci[0] < compared.accuracy_drop < compared.drop_ci[1]
    assert found.scores == "logits"
    assert found.unavailable["float_scores.top5_accuracy"] == "the model has only 3 classes"
    assert (found.float_model.ran_on, found.artifact.ran_on) == ("host", "host")


def test_a_quantized_file_alone_is_evaluated_as_it_is(run, models, labelled):
    both = run(models / "float.tflite", models / "int8.tflite", data=labelled)
    alone = run(models / "int8.tflite", data=labelled)
    assert alone.float_model is None
    assert alone.artifact.name == "int8"
    assert alone.artifact_scores == both.artifact_scores
    assert alone.comparison is None
    assert alone.unavailable["float_scores"] == "no float model was given"


def test_a_float_model_alone_is_evaluated_by_itself(run, models, labelled):
    found = run(models / "float.tflite", data=labelled)
    assert (found.artifact, found.comparison, found.artifact_scores) == (None, None, None)
    assert found.float_scores.top1_accuracy > 0.8


def test_outputs_without_labels_are_compared_one_by_one(run, models, tmp_path):
    """The same file twice: equal answers have no SQNR, and are better than any limit on it."""
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", b=generator.normal(size=(20, 2)), a=generator.normal(size=(20, 2)))
    model, limits = models / "two.tflite", Limits(min_sqnr_db=90.0)
    found = run(model, model, data=tmp_path / "a.npz", limits=limits)
    names = [output.name for output in found.comparison.outputs]
    assert sorted(names) == ["product", "sum"]
    assert found.comparison.max_abs_error == 0
    assert found.unavailable["comparison.agreement"] == "the model has 2 outputs"
    assert "equal the float model's" in found.unavailable["comparison.sqnr_db"]
    assert found.classes == ()
    assert found.gates == ()


def test_an_artifact_of_another_model_is_refused(run, models, labelled):
    with pytest.raises(ModelError, match="the inputs of the model and of the artifact differ"):
        run(models / "float.tflite", models / "two.tflite", data=labelled)


def test_labels_of_other_classes_are_refused(run, models, tmp_path, features):
    np.savez(tmp_path / "a.npz", features=features[0], labels=features[1] + 5)
    with pytest.raises(DataError, match="but the model has 3 classes"):
        run(models / "float.tflite", models / "int8.tflite", data=tmp_path / "a.npz")


def test_a_sample_that_is_not_a_number_is_named(run, models, tmp_path, features):
    samples = features[0].copy()
    samples[123, 2] = np.nan
    np.savez(tmp_path / "a.npz", features=samples)
    with pytest.raises(DataError, match=r"sample 123 of .* has NaN"):
        run(models / "int8.tflite", data=tmp_path / "a.npz")


def test_limits_that_were_named_make_gates(run, models, labelled):
    limits = Limits(max_drop=0.5, min_agreement=0.999, min_sqnr_db=3.0)
    found = run(models / "float.tflite", models / "int8.tflite", data=labelled, limits=limits)
    assert [(gate.name, gate.passed) for gate in found.gates] == [
        ("accuracy_drop", True),
        ("top1_agreement", False),
        ("sqnr_db", True),
    ]
    assert found.gates[1].value == found.comparison.agreement


def test_metrics_of_the_users_see_all_outputs_and_labels(
    run, models, labelled, features, tmp_path, monkeypatch
):
    (tmp_path / "own_metrics.py").write_text(METRICS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ("own_metrics:mean_error", "own_metrics:rows")
    found = run(models / "float.tflite", models / "int8.tflite", data=labelled, metrics=names)
    values = {metric.name: metric for metric in found.metrics}
    samples, labels = features
    for path, field in (("float", "float_value"), ("int8", "artifact_value")):
        rows = outputs_of(models / f"{path}.tflite", samples)
        lost = rows.max(axis=1) - rows[np.arange(len(labels)), labels]
        mean = getattr(values["own_metrics:mean_error.mean"], field)
        assert mean == pytest.approx(lost.mean(), rel=1e-6)
        assert getattr(values["own_metrics:mean_error.worst"], field) == lost.max()
    assert values["own_metrics:rows"].float_value == 300
    undefined = "own_metrics:mean_error.undefined"
    assert values[undefined].artifact_value is None
    assert found.unavailable[undefined] == "the metric gave a number that is not finite"


def test_metrics_that_cannot_be_used_are_told(run, models, labelled, tmp_path, monkeypatch):
    (tmp_path / "odd_metrics.py").write_text("def words(outputs, labels):\n    return 'many'\n")
    monkeypatch.syspath_prepend(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    request = ScoreRequest(
        metrics=("odd_metrics:words",),
        float_outputs=(),
        artifact_outputs=(tmp_path / "a.npy",),
        labels=None,
    )
    with pytest.raises(UsageError, match="gave str, not a number"):
        steps.score(request, quiet)
    with pytest.raises(UsageError, match="no metric is called 'f2'"):
        steps.find(FindRequest(metrics=("f2",)), quiet)
    with pytest.raises(UsageError, match="'no_such:thing' cannot be imported"):
        run(models / "int8.tflite", data=labelled, metrics=("no_such:thing",))


def test_robustness_that_falls_silently_is_told(run, models, pictures):
    """On pictures of one color both models answer alike; on rough ones only the float model."""
    both = models / "pictures.onnx", models / "fragile.onnx"
    found = run(*both, data=pictures, format_="onnx", corrupt=True)
    assert found.comparison.accuracy_drop == 0
    by_name = {(one.name, one.severity): one for one in found.corruptions}
    assert len(by_name) == 25
    assert by_name["noise", 1].value == 0.04
    noisy = by_name["noise", 5]
    assert (noisy.float_accuracy, noisy.significant) == (1.0, True)
    assert noisy.extra_drop == noisy.accuracy_drop > 0.5
    assert not by_name["brightness", 5].significant
    (warning,) = [text for text in found.warnings if "robustness" in text]
    assert "noise 5" in warning
    assert "brightness" not in warning
    assert [one.name for one in found.not_applied] == ["gain"]


def test_the_size_of_the_chunks_changes_no_figure(run, models, labelled, monkeypatch):
    """Bit for bit, corrupted too; numbers that are no pictures get noise and gain only."""
    both = models / "float.tflite", models / "int8.tflite"
    whole = run(*both, data=labelled, corrupt=True)
    monkeypatch.setattr("edgeq.evaluation.passes.CHUNK_BYTES", 190 * 16)
    monkeypatch.setattr("edgeq.evaluation.passes._GROUP_BYTES", 600 * 16)
    assert run(*both, data=labelled, corrupt=True) == whole
    assert {one.name for one in whole.corruptions} == {"noise", "gain"}
    assert {one.name for one in whole.not_applied} == {"blur", "brightness", "contrast", "jpeg"}
    half = whole.corruptions[-1]
    assert (half.name, half.parameter, half.value) == ("gain", "gain_factor", 0.5)


def test_pieces_are_as_large_as_time_allows():
    now, sizes = [0.0], []

    def slow(_, inputs):
        sizes.append(len(inputs[0]))
        now[0] += 1.0 + 0.5 * len(inputs[0])
        return [inputs[0] * 2]

    paced = Paced(slow, lambda: now[0])
    samples = np.arange(100, dtype=np.float32)
    assert np.array_equal(paced("", [samples])[0], samples * 2)
    assert sizes[0] == 32
    assert sum(sizes) == 100
    assert all(1.0 + 0.5 * size < 40 for size in sizes)


def test_the_command_prints_tables_and_writes_json(user, models, labelled, home):
    one, other = models / "float.tflite", models / "int8.tflite"
    words = ("--data", labelled, "--json", home / "found.json", "--min-agreement", 0.9999)
    done = user.run("evaluate", one, other, *words)
    assert done.returncode == 3
    assert "top1_agreement is" in done.stderr
    assert "evaluate 300 samples" in done.stderr
    assert "accuracy drop" in done.stdout
    assert "confusion, artifact: rows are labels" in done.stdout
    found = Evaluation.model_validate_json((home / "found.json").read_text())
    assert found.data.samples == 300
    assert f"agreement          {found.comparison.agreement:.4f}" in done.stdout


def test_on_device_runs_the_artifact_there(user, models, labelled):
    """``host`` is a device too: reached through its transport, with its own agent and lock."""
    words = (models / "float.tflite", models / "int8.tflite", "--data", labelled, "--json", "-")
    done = user.run("evaluate", *words, "--on-device", "--device", "host")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["artifact"]["ran_on"] == "host"
    assert found["artifact_scores"]["top1_accuracy"] > 0.8
    assert "device: examine" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["float.tflite"], 2, "there is no data to evaluate on"),
        (["none.h5", "--data", "x.npz"], 5, "none.h5 does not exist"),
        (["float.tflite", "--data", "none.npz"], 5, "there is no none.npz"),
        (["float.tflite", "--data", "x.npz", "--on-device"], 2, "--on-device needs --device"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(user, models, words, status, message):
    model = models / words[0] if words[0] == "float.tflite" else words[0]
    done = user.run("evaluate", model, *words[1:])
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
