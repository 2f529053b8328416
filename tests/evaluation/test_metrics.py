"""The accumulators against scikit-learn, plain loops and themselves in other batches."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from edgeq.core.metrics import Calibration, Distance, Pairs, Tally, answers
from edgeq.core.model import TensorSpec
from edgeq.core.quality import Comparison, compare
from edgeq.core.robustness import holm, sign_test
from edgeq.core.scores import ClassScores
from edgeq.core.sums import ExactSum
from edgeq.errors import DataError

SAMPLES, CLASSES = 500, 12


@pytest.fixture(scope="module")
def scored():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, CLASSES, SAMPLES)
    logits = generator.normal(0, 2, (SAMPLES, CLASSES)).astype(np.float32)
    logits[np.arange(SAMPLES), labels] += 2
    noisy = logits + generator.normal(0, 0.5, logits.shape).astype(np.float32)
    return logits, noisy, labels


def softmax(rows):
    powers = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def tally_of(scores, labels, kind="logits", batches=1):
    tally = Tally()
    for part in np.array_split(np.arange(len(labels)), batches):
        tally.add(answers(scores[part], labels[part], kind), labels[part])
    return tally


def expected_calibration_error(probabilities, labels):
    """Guo et al. 2017, equations 2 to 5, sample by sample."""
    bins = [[] for _ in range(15)]
    for row, label in zip(probabilities, labels, strict=True):
        chosen = max(range(len(row)), key=lambda place: row[place])
        confidence = row[chosen]
        inside = [m for m in range(15) if m / 15 < confidence <= (m + 1) / 15] or [0]
        bins[inside[0]].append((confidence, chosen == label))
    total = sum(map(len, bins))
    return sum(
        len(b) / total * abs(sum(r for _, r in b) / len(b) - sum(c for c, _ in b) / len(b))
        for b in bins
        if b
    )


def test_accuracy_and_confusion_are_those_of_scikit_learn(scored):
    logits, _, labels = scored
    tally, chosen = tally_of(logits, labels), logits.argmax(axis=1)
    assert tally.right / tally.samples == sklearn_metrics.accuracy_score(labels, chosen)
    expected = sklearn_metrics.confusion_matrix(labels, chosen)
    assert np.array_equal(tally.confusion(CLASSES), expected)
    recalls = sklearn_metrics.recall_score(labels, chosen, average=None)
    assert [right / total for _, (right, total) in sorted(tally.by_class().items())] == list(
        recalls
    )
    top5 = sklearn_metrics.top_k_accuracy_score(labels, logits, k=5)
    assert tally.in_top / tally.samples == top5


def test_the_calibration_error_is_the_one_reckoned_sample_by_sample(scored):
    logits, _, labels = scored
    expected = expected_calibration_error(softmax(logits), labels)
    assert tally_of(logits, labels).calibration.error == pytest.approx(expected, abs=1e-12)
    shares = softmax(logits).astype(np.float32)
    found = tally_of(shares, labels, "probabilities").calibration.error
    assert found == pytest.approx(expected_calibration_error(shares, labels), abs=1e-6)


def test_a_confidence_at_an_edge_belongs_to_the_bin_below_it():
    calibration = Calibration()
    calibration.add(np.array([1 / 15, 2 / 15, 1.0, 0.0]), np.array([True, False, True, False]))
    assert calibration.counts.tolist() == [2, 1, *[0] * 11, 0, 1]


def test_a_single_number_is_the_probability_or_the_logit_of_class_1():
    labels = np.array([1, 0, 1])
    found = answers(np.array([[0.9], [0.3], [0.4]], np.float32), labels, "probabilities")
    assert found.chosen.tolist() == [1, 0, 0]
    assert found.confidence == pytest.approx([0.9, 0.7, 0.6])
    found = answers(np.array([[2.0], [-800.0], [0.0]], np.float32), labels, "logits")
    assert found.chosen.tolist() == [1, 0, 0]
    assert found.confidence == pytest.approx([1 / (1 + math.exp(-2)), 1.0, 0.5])


def test_of_equal_scores_the_first_class_comes_first():
    scores = np.zeros((2, 8), np.float32)
    labels = np.array([4, 5])
    found = answers(scores, labels, "probabilities")
    assert found.chosen.tolist() == [0, 0]
    assert found.in_top.tolist() == [True, False]


def test_a_label_beyond_the_classes_is_in_no_top():
    found = answers(np.zeros((1, 8), np.float32), np.array([8]), "logits")
    assert found.in_top.tolist() == [False]


@pytest.mark.parametrize("batches", [2, 7, SAMPLES])
def test_the_figures_are_the_same_bit_for_bit_in_any_batches(scored, batches):
    logits, noisy, labels = scored
    inputs = (TensorSpec(name="x", shape=(1, 4), dtype="float32"),)
    whole, parted = Comparison(inputs), Comparison(inputs)
    whole.add([logits, logits[:, :1]], [noisy, noisy[:, :1]], labels)
    for part in np.array_split(np.arange(SAMPLES), batches):
        outputs = ([a[part], a[part, :1]] for a in (logits, noisy))
        parted.add(*outputs, labels[part])
    for one, other in zip(whole.distances, parted.distances, strict=True):
        assert (one.sqnr_db, one.cosine) == (other.sqnr_db, other.cosine)
        assert one.max_abs_error == other.max_abs_error
    tallies = tally_of(logits, labels), tally_of(logits, labels, batches=batches)
    assert tallies[0].calibration.error == tallies[1].calibration.error
    assert tallies[0].cells == tallies[1].cells


def test_what_two_halves_took_can_be_put_together(scored):
    logits, noisy, labels = scored
    halves = slice(0, 100), slice(100, None)
    tallies = [tally_of(logits[half], labels[half]) for half in halves]
    tallies[0].merge(tallies[1])
    whole = tally_of(logits, labels)
    assert tallies[0].calibration.error == whole.calibration.error
    assert (tallies[0].right, tallies[0].in_top) == (whole.right, whole.in_top)
    assert np.array_equal(tallies[0].confusion(CLASSES), whole.confusion(CLASSES))
    distances, pairs = [Distance(), Distance(), Distance()], [Pairs(), Pairs(), Pairs()]
    for place, half in enumerate((*halves, slice(None))):
        distances[place].add(logits[half], noisy[half])
        read = [answers(rows[half], labels[half], "logits") for rows in (logits, noisy)]
        pairs[place].add(*read)
    distances[0].merge(distances[1])
    pairs[0].merge(pairs[1])
    assert distances[0].sqnr_db == distances[2].sqnr_db
    assert distances[0].cosine == distances[2].cosine
    assert pairs[0] == pairs[2]


def test_the_distances_are_those_of_their_formulas(scored):
    one, other = (array.astype(np.float64) for array in scored[:2])
    distance = Distance()
    distance.add(*scored[:2])
    ratio = 10 * np.log10((one**2).sum() / ((one - other) ** 2).sum())
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    assert distance.sqnr_db == pytest.approx(ratio, rel=1e-12)
    assert distance.cosine == pytest.approx(np.mean((one * other).sum(axis=1) / lengths), rel=1e-12)
    assert distance.max_abs_error == np.abs(one - other).max()


def test_a_sum_is_exact_in_any_order():
    values = np.array([1e300, 1.0, -1e300, 5e-324, 2.0**-1060, -1.0, 1e-300, 0.0])
    generator = np.random.default_rng(1)
    for _ in range(5):
        generator.shuffle(values)
        assert ExactSum(values).value == math.fsum(values)


def test_pairs_count_who_was_right(scored):
    logits, noisy, labels = scored
    found = compare([logits], [noisy], labels, source="evaluation")
    scores = ClassScores()
    scores.add([logits], [noisy], labels)
    one, other = (rows.argmax(axis=1) == labels for rows in (logits, noisy))
    pairs = scores.pairs
    assert (pairs.float_only, pairs.artifact_only) == ((one & ~other).sum(), (other & ~one).sum())
    assert found.accuracy_drop == pytest.approx((pairs.float_only - pairs.artifact_only) / SAMPLES)


def test_probabilities_are_told_from_logits(scored):
    logits, _, labels = scored
    for rows, kind in ((logits, "logits"), (softmax(logits).astype(np.float32), "probabilities")):
        scores = ClassScores()
        scores.add([rows], None, labels)
        assert scores.kind == kind
    rounded = np.rint(softmax(logits) * 256) / 256
    alone = ClassScores()
    alone.add(None, [rounded.astype(np.float32)], labels)
    assert alone.kind == "probabilities"


def test_that_an_output_is_a_reconstruction_may_show_late():
    inputs = (TensorSpec(name="x", shape=(1, 4), dtype="float32"),)
    scores = ClassScores(inputs)
    sure = np.array([[0.25, 0.25, 0.25, 0.25]], np.float32)
    scores.add([sure], [sure], np.array([9]))
    scores.add([sure * 3], [sure * 3], np.array([9]))
    assert "reconstruction" in scores.problem


def test_a_label_beyond_the_classes_is_refused_at_once():
    scores = ClassScores()
    with pytest.raises(DataError, match="a label is 3, but the model has 2 classes"):
        scores.add([np.zeros((1, 2), np.float32)], None, np.array([3]))


def test_the_sign_test_is_the_binomial_one():
    from scipy.stats import binomtest

    for more, less in ((0, 0), (3, 0), (7, 2), (2, 7), (300, 250), (900, 800)):
        expected = binomtest(more, more + less, alternative="greater").pvalue if more + less else 1
        assert sign_test(more, less) == pytest.approx(expected, rel=0.02)


def test_holm_lets_stand_what_stands_among_many():
    assert holm([0.01, 0.04, 0.03, 0.005]) == (True, False, False, True)
    assert holm([]) == ()
