"""Losses by how a model ends, and who is right."""

import numpy as np
import pytest

from edgeq.qat import objective
from edgeq.qat.objective import Targets


@pytest.mark.parametrize(
    ("end", "width", "loss"),
    [
        ("softmax", 10, "softmax"),
        ("values", 10, "scores"),
        ("values", 1, "score"),
        ("sigmoid", 1, "sigmoid"),
        ("sigmoid", 4, "sigmoid"),
    ],
)
def test_labels_choose_the_loss_that_goes_with_the_end(end, width, loss):
    chosen = objective.choose([end], [width], classes=max(width, 2))
    assert chosen.losses == (loss,)
    assert chosen.has_labels
    assert ("logits" in chosen.words) == (loss in ("score", "scores"))


def test_without_labels_the_model_learns_its_own_answers():
    chosen = objective.choose(["softmax", "values"], [3, 7], classes=None)
    assert chosen.losses == ("softmax", "values")
    assert not chosen.has_labels


def test_label_rows_hold_a_single_one():
    rows = objective.label_rows(np.array([2, 0]), 3)
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert objective.label_rows(np.array([1, 0]), 1).tolist() == [[1], [0]]


def test_a_single_score_says_class_1_above_0_and_a_probability_above_a_half():
    outputs, labels = np.array([[0.2], [0.6], [-0.1]], np.float32), np.array([1, 1, 0])
    assert objective.right(outputs, labels, "score").tolist() == [True, True, True]
    assert objective.right(outputs, labels, "sigmoid").tolist() == [False, True, True]


def test_values_are_compared_on_their_own_scale():
    outputs = (np.full((4, 2), 10, np.float32), np.zeros((4, 1), np.float32))
    targets = Targets(widths=(2, 1), outputs=outputs)
    assert targets.divisors(("values", "values")) == (100.0, 1.0)
    assert targets.divisors(("softmax", "values")) == (1.0, 1.0)
    assert targets.accuracy(outputs, ("values", "values")) is None
