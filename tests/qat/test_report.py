"""Which model to take: the cheapest that none is proved better than."""

import json

import jsonschema
import numpy as np
import pytest

from edgeq.cli.schema import Document, document
from edgeq.core import qat
from edgeq.core.qat import Row

SAMPLES = 200


def right(count):
    """The first ``count`` of the samples are answered right."""
    return np.arange(SAMPLES) < count


def test_plain_int8_wins_when_nothing_is_proved_better():
    answers = {"ptq": right(196), "ptq-cle": right(197), "qat": right(198)}
    assert qat.best_by_answers(answers) == "ptq"


def test_training_wins_when_it_is_proved_better():
    answers = {"ptq": right(40), "ptq-cle": right(60), "qat": right(190)}
    assert qat.best_by_answers(answers) == "qat"


def test_equalization_wins_over_a_training_that_is_worse():
    answers = {"ptq": right(37), "ptq-cle": right(198), "qat": right(166)}
    assert qat.best_by_answers(answers) == "ptq-cle"


def test_equalization_wins_when_the_training_gives_no_more():
    answers = {"ptq": right(37), "ptq-cle": right(197), "qat": right(198)}
    assert qat.best_by_answers(answers) == "ptq-cle"


def test_what_could_not_be_made_is_left_out():
    assert qat.best_by_answers({"qat": right(10)}) == "qat"
    assert qat.best_by_noise({"ptq-cle": 20.0, "qat": 20.1}) == "ptq-cle"


@pytest.mark.parametrize(
    ("ratios", "best"),
    [
        ({"ptq": 18.0, "ptq-cle": 18.4, "qat": 18.3}, "ptq"),
        ({"ptq": 18.0, "ptq-cle": 26.0, "qat": 24.0}, "ptq-cle"),
        ({"ptq": 18.0, "ptq-cle": 18.1, "qat": 24.0}, "qat"),
        ({"ptq": None, "ptq-cle": 60.0, "qat": 24.0}, "ptq"),
    ],
)
def test_without_classes_the_signal_to_noise_ratio_decides(ratios, best):
    assert qat.best_by_noise(ratios) == best


def test_the_advice_names_the_figures_it_rests_on():
    rows = (
        Row(name="float", accuracy=0.99),
        Row(name="ptq", accuracy=0.185),
        Row(name="ptq-cle", accuracy=0.989),
        Row(name="qat", accuracy=0.833),
    )
    advice = qat.advise("ptq-cle", rows, 540)
    assert "--equalize" in advice
    assert "540 samples: PTQ accuracy 0.1850, PTQ + CLE accuracy 0.9890, QAT accuracy 0.8330" in (
        advice
    )


def report():
    return qat.QatReport(
        created="2026-11-21T12:00:00Z",
        model=qat.ModelSection(name="m", sha256="0" * 64, size_bytes=5, source="keras"),
        profile="host",
        format="tflite",
        training=qat.TrainingSection(
            objective="labels", origin="t.npz", samples=9, kept_back=1, calibration_samples=9,
            batch=32, learning_rate=1e-4, seed=0, best_epoch=1, resumed_at=0, tools={},
            epochs=(
                qat.EpochSection(
                    number=0, train_loss=None, validation_loss=1.0, validation_accuracy=None
                ),
            ),
        ),
        evaluation=qat.EvaluationSection(
            origin="e.npz", samples=4, labelled=True, chose_epoch=False
        ),
        rows=(Row(name="ptq", unavailable={"all": "it is not"}),),
        own_sqnr_db=None,
        best="qat",
        advice="take it",
    )  # fmt: skip


def test_the_json_follows_its_schema_and_says_which_it_is():
    found = json.loads(qat.dump(report()))
    assert found["schema"] == "edgeq.qat/1"
    assert found["rows"][0]["accuracy"] is None
    jsonschema.validate(found, document(Document.QAT))
