import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core import gates
from edgeq.core.gates import Limits
from edgeq.core.profile import Budgets
from edgeq.core.report import QualitySection
from edgeq.errors import UsageError


def quality(*, real=True, limits=None, **figures):
    section = QualitySection(samples=100, **figures)
    return gates.quality_gates(section, has_real_data=real, limits=limits)


def labelled(drop, agreement=0.98):
    return {
        "float_accuracy": 0.9,
        "artifact_accuracy": 0.9 - drop,
        "accuracy_drop": 0.9 - (0.9 - drop),
        "top1_agreement": agreement,
    }


def passed(found):
    return {gate.name: gate.passed for gate in found}


def test_with_labels_the_drop_is_a_gate_of_one_point():
    assert passed(quality(**labelled(0.01))) == {"accuracy_drop": True, "top1_agreement": True}
    assert not passed(quality(**labelled(0.02)))["accuracy_drop"]


def test_with_labels_an_artifact_that_answers_differently_half_the_time_is_ruined():
    assert passed(quality(**labelled(-0.1, agreement=0.4))) == {
        "accuracy_drop": True,
        "top1_agreement": False,
    }


def test_max_drop_is_the_limit_and_fails_where_there_are_no_labels():
    assert passed(quality(limits=Limits(max_drop=0.05), **labelled(0.02)))["accuracy_drop"]
    (gate,) = quality(real=False, limits=Limits(max_drop=0.05))
    assert (gate.value, gate.passed) == (None, False)


def test_without_labels_the_agreement_on_real_data_is_a_gate():
    (gate,) = quality(top1_agreement=0.89)
    assert (gate.name, gate.limit, gate.passed) == ("top1_agreement", 0.9, False)
    assert passed(quality(top1_agreement=0.9)) == {"top1_agreement": True}
    assert quality(real=False, top1_agreement=0.1) == ()


def test_where_there_are_no_class_scores_the_noise_on_real_data_is_a_gate():
    (gate,) = quality(sqnr_db=1.17)
    assert (gate.name, gate.limit, gate.passed) == ("sqnr_db", 10, False)
    assert passed(quality(sqnr_db=38.2)) == {"sqnr_db": True}
    assert passed(quality(sqnr_db=8.0, limits=Limits(min_sqnr_db=5))) == {"sqnr_db": True}
    assert quality(sqnr_db=None) == ()
    assert quality(real=False, sqnr_db=1.0) == ()


def test_a_named_agreement_is_a_gate_beside_the_drop():
    found = quality(limits=Limits(min_agreement=0.99), **labelled(0.0, agreement=0.985))
    assert passed(found) == {"accuracy_drop": True, "top1_agreement": False}
    (gate,) = quality(real=False, limits=Limits(min_agreement=0.5))
    assert (gate.value, gate.passed) == (None, False)


def test_a_model_that_failed_on_the_device_fails_a_gate():
    assert not gates.trial_gate(failures=1).passed
    assert gates.trial_gate(failures=0).passed


@pytest.mark.parametrize(("difference", "passed"), [(0.0, True), (0.01, True), (0.02, False)])
def test_parity_passes_within_its_limit(difference, passed):
    assert gates.parity_gate(max_abs_diff=difference, limit=0.01).passed is passed


def test_an_unknown_parity_is_not_passed():
    assert not gates.parity_gate(max_abs_diff=None, limit=0.01).passed


def budgets(limits, **values):
    known = {"latency_p90_ms": None, "peak_memory_mib": None, "energy_mj": None}
    return gates.budget_gates(limits, **{**known, "artifact_mib": 1.0, **values})


def test_only_budgets_that_are_set_are_gates():
    limits = Budgets(latency_p90_ms=5, artifact_mib=2)
    found = budgets(limits, latency_p90_ms=6)
    assert [(gate.name, gate.passed) for gate in found] == [
        ("latency_p90_ms", False),
        ("artifact_mib", True),
    ]


@given(st.sampled_from([None, math.nan, math.inf, -math.inf, -1.0, 0.0]))
def test_a_budget_is_never_passed_by_a_figure_that_is_unknown_or_cannot_be(value):
    (gate,) = budgets(Budgets(energy_mj=1000), energy_mj=value)
    assert not gate.passed
    assert gate.value is None or math.isfinite(gate.value)


def test_failures_are_sentences():
    found = budgets(Budgets(latency_p90_ms=5, energy_mj=3), latency_p90_ms=6.5)
    assert gates.failures(found) == (
        "latency_p90_ms is 6.5, the limit is 5",
        "energy_mj is not known, the limit is 3",
    )


def test_a_budget_on_the_command_line_replaces_the_profiles():
    base = Budgets(peak_memory_mib=512, energy_mj=3)
    found = gates.parse_budgets(["latency_p90_ms=2.5", "peak_memory_mib=none"], base)
    assert found == Budgets(latency_p90_ms=2.5, energy_mj=3)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("latency_p99_ms=2", "write it as latency_p90_ms=NUMBER"),
        ("speed=2", "keys: latency_p90_ms, peak_memory_mib, energy_mj, artifact_mib"),
        ("energy_mj", "write it as energy_mj=NUMBER"),
        ("energy_mj=5 mJ", "the unit is in the key"),
        ("energy_mj=nan", "the unit is in the key"),
        ("energy_mj=-1", "the unit is in the key"),
        ("energy_mj=", "the unit is in the key"),
    ],
)
def test_a_wrong_budget_is_refused_with_the_mend(word, hint):
    with pytest.raises(UsageError) as caught:
        gates.parse_budgets([word], Budgets())
    assert word in caught.value.message
    assert hint in caught.value.hint
