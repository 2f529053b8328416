"""Which candidate is taken, and what a budget means."""

from dataclasses import replace

import numpy as np
import pytest

from edgeq.core import drop
from edgeq.core.drop import Counts
from edgeq.core.gates import Limits
from edgeq.core.quality import Quality
from edgeq.core.search import choose, rank, verdicts
from edgeq.core.standard import Judged, Standard

LABELLED = Standard(limits=Limits(max_drop=0.01), confidence=0.95)
UNLABELLED = Standard(limits=Limits(min_agreement=0.9), confidence=0.95)
MANY = 1000


def labelled(precision="int8", *, n=MANY, losses=0, gains=0, changed=None, size=100, apart=20.0):
    changed = losses + gains if changed is None else changed
    float_accuracy = 0.9
    return Judged(
        name=precision,
        precision=precision,
        size_bytes=size,
        apart_sqnr_db=apart,
        counts=Counts(samples=n, losses=losses, gains=gains),
        quality=Quality(
            samples=n,
            sqnr_db=20.0,
            cosine=1.0,
            top1_agreement=1 - changed / n,
            float_accuracy=float_accuracy,
            artifact_accuracy=float_accuracy - (losses - gains) / n,
            accuracy_drop=(losses - gains) / n,
            source="evaluation",
        ),
    )


def unlabelled(precision="int8", *, n=MANY, changed=0, sqnr_db=20.0, scores=True):
    return Judged(
        name=precision,
        precision=precision,
        size_bytes=100,
        apart_sqnr_db=sqnr_db,
        counts=None,
        quality=Quality(
            samples=n,
            sqnr_db=sqnr_db,
            cosine=1.0,
            top1_agreement=1 - changed / n if scores else None,
            float_accuracy=None,
            artifact_accuracy=None,
            accuracy_drop=None,
            source="calibration",
        ),
    )


def test_a_candidate_holds_when_the_bound_of_its_drop_does():
    assert LABELLED.judge(labelled(losses=2, gains=1)).outcome == "holds"


def test_a_figure_within_the_budget_is_not_enough():
    judged = labelled(losses=9, gains=1)
    assert judged.quality.accuracy_drop < 0.01
    assert LABELLED.judge(judged).outcome in ("likely", "unproved")


def test_many_changed_answers_are_no_likely_candidate():
    assert LABELLED.judge(labelled(losses=8, gains=1, changed=40)).outcome == "unproved"
    assert LABELLED.judge(labelled(losses=8, gains=1, changed=5)).outcome == "likely"


def test_a_drop_beyond_the_budget_fails():
    verdict = LABELLED.judge(labelled(losses=20))
    assert verdict.outcome == "fails"
    assert verdict.reason == "its drop is 0.02, more than 0.01"


def test_lucky_gains_do_not_pay_for_doubt():
    """Eight gains and three losses look like an improvement, and are mostly luck."""
    lucky, sober = labelled(n=300, losses=3, gains=8), labelled(n=300, losses=3, gains=3)
    assert drop.drop_interval(lucky.counts, 0.95).high < 0.01
    assert LABELLED.drop_bound(lucky.counts) == drop.drop_interval(sober.counts, 0.95).high
    assert LABELLED.judge(lucky).outcome != "holds"


def test_int8_is_taken_before_anything_else_that_holds():
    found = [labelled("fp16"), labelled("int8-dynamic"), labelled("int8", losses=1)]
    choice = choose(found, LABELLED)
    assert (choice.chosen, choice.proved) == (2, True)


def test_the_next_kind_is_taken_when_int8_leaves_doubt():
    found = [labelled("int8", losses=8, gains=2, changed=40), labelled("fp16")]
    assert choose(found, LABELLED).chosen == 1


def test_of_one_kind_the_better_on_other_samples_is_taken():
    found = [
        labelled("int8", losses=0, gains=5, apart=18.0),
        labelled("int8", losses=1, gains=0, apart=24.0),
    ]
    assert choose(found, LABELLED).chosen == 1


def test_a_larger_file_of_the_same_kind_comes_later():
    found = [labelled("mixed", size=200, apart=30.0), labelled("mixed", size=100, apart=20.0)]
    assert rank(found) == (1, 0)
    near = [labelled("int8", size=101, apart=30.0), labelled("int8", size=100, apart=20.0)]
    assert rank(near) == (0, 1)


def test_nothing_is_taken_when_all_fail_and_the_nearest_is_named():
    found = [labelled("int8", losses=300), labelled("fp16", losses=30)]
    choice = choose(found, LABELLED)
    assert (choice.chosen, choice.nearest) == (None, 1)


def test_a_doubtful_candidate_is_nearer_than_one_that_fails():
    found = [labelled("int8", losses=11), labelled("fp16", losses=9, gains=2, changed=50)]
    assert choose(found, LABELLED).nearest == 1


def test_where_one_lost_answer_decides_a_likely_one_is_good_enough():
    found = [labelled("int8", n=270, losses=1), labelled("fp16", n=270)]
    choice = choose(found, LABELLED)
    assert (choice.chosen, choice.proved) == (0, False)
    assert LABELLED.samples_needed(found[0]) > 270


def test_no_number_of_samples_proves_a_drop_of_nothing():
    exact = replace(LABELLED, limits=replace(LABELLED.limits, max_drop=0.0))
    assert exact.samples_needed(labelled("int8", n=270)) is None


def test_with_samples_enough_a_proof_goes_before_likeliness():
    found = [labelled("int8", n=500, losses=2), labelled("fp16", n=500)]
    assert LABELLED.judge(found[0]).outcome == "likely"
    choice = choose(found, LABELLED)
    assert (choice.chosen, choice.proved) == (1, True)


def test_few_samples_do_not_make_a_changeable_candidate_likely():
    found = [labelled("int8", n=100, losses=1, gains=3, changed=4), labelled("fp16", n=100)]
    assert choose(found, LABELLED).chosen == 1


def test_without_labels_the_bound_of_the_agreement_decides():
    assert UNLABELLED.judge(unlabelled(n=100, changed=3)).outcome == "holds"
    assert UNLABELLED.judge(unlabelled(n=100, changed=8)).outcome == "unproved"
    assert UNLABELLED.judge(unlabelled(n=100, changed=20)).outcome == "fails"


def test_without_class_scores_the_ratio_decides():
    standard = Standard(limits=Limits(min_sqnr_db=25.0), confidence=0.95)
    found = [
        unlabelled("int8", sqnr_db=24.9, scores=False),
        unlabelled("fp16", sqnr_db=60.0, scores=False),
    ]
    assert choose(found, standard).chosen == 1


def test_every_limit_that_is_named_has_to_hold():
    standard = Standard(limits=Limits(max_drop=0.01, min_sqnr_db=30.0), confidence=0.95)
    assert standard.judge(labelled()).outcome == "fails"


def test_the_doubt_is_a_gate_that_fails():
    (gate,) = LABELLED.doubts(labelled(losses=9, gains=1, changed=40))
    assert (gate.name, gate.limit, gate.passed) == ("accuracy_drop_bound", 0.01, False)
    assert gate.value > 0.01
    assert LABELLED.doubts(labelled()) == ()


def test_after_a_look_that_refuted_nothing_the_next_is_stricter():
    doubtful = labelled("int8", losses=9, gains=1, changed=40)
    broken = labelled("int8", losses=400)
    second = labelled("int8-dynamic", losses=2, gains=1)
    for first, confidence in ((doubtful, 0.975), (broken, 0.95)):
        verdict = verdicts([first, second], LABELLED)[1]
        assert replace(LABELLED, looks=verdict.looks).sure == pytest.approx(confidence)


def test_what_is_rounded_finely_is_looked_at_as_if_it_were_the_first():
    doubtful = [labelled("int8", losses=9, gains=1, changed=40) for _ in range(4)]
    verdict = verdicts([*doubtful, labelled("fp16", n=300)], LABELLED)[-1]
    assert (verdict.looks, verdict.outcome) == (0, "holds")


@pytest.mark.parametrize("shared", [0.0, 0.8], ids=["independent", "alike"])
def test_a_search_seldom_takes_one_that_breaks_the_budget(shared):
    """Five candidates exactly at the edge: the worst that a search can meet.

    One look errs with 5 %, and each further one with half of that: together less than 10 %.
    """
    random, n, searches = np.random.default_rng(3), 800, 500
    chances = (0.015, 0.005, 0.98)
    taken = 0
    for _ in range(searches):
        common = random.choice(3, p=chances, size=n)
        found = []
        for kind in ("int8", "int8", "int8", "mixed", "int8-dynamic"):
            own = random.choice(3, p=chances, size=n)
            answers = np.where(random.random(n) < shared, common, own)
            losses, gains = int((answers == 0).sum()), int((answers == 1).sum())
            found.append(labelled(kind, n=n, losses=losses, gains=gains))
        taken += choose(found, LABELLED).chosen is not None
    assert taken / searches < 0.10
