"""Ops kept in float32 one by one, with a journal."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from edgeq.core.model import FloatModel, Source
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.formats import tflite
from edgeq.ports import Recipe
from edgeq.search import sensitivity
from edgeq.search.sensitivity import SensitivityRequest, Step
from tests.fakes import tiny_model


def silent(_phase, _done, _total):
    pass


@pytest.fixture
def request_(tmp_path):
    """The model with two ops, 16 samples to calibrate and 8 to measure on."""
    path = tmp_path / "pivot.tflite"
    path.write_bytes(tiny_model.two_in_two_out_model())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    tensors = tflite.Runner(path).tensors
    source = Source(path=path, name="pivot", kind="tflite", sha256=sha256, size_bytes=1)
    pivot = FloatModel(
        path=path, format="tflite", sha256=sha256, source=source, inputs=tensors.inputs,
        outputs=tensors.outputs, check_samples=0, check_max_abs_diff=0.0,
    )  # fmt: skip
    random = np.random.default_rng(4)
    for name, count in (("calibration", 16), ("probe", 8)):
        (tmp_path / name).mkdir()
        arrays = tuple(random.normal(0, 1, (count, 2)).astype(np.float32) for _ in range(2))
        stored.write(Samples(inputs=arrays, origin=name, sha256=name), tmp_path / name)
    return SensitivityRequest(
        pivot=pivot,
        recipe=Recipe(precision="int8"),
        calibration=tmp_path / "calibration",
        probe=tmp_path / "probe",
        journal=tmp_path / "journals" / "one.jsonl",
        seconds=60.0,
    )


def test_every_op_is_measured_once_and_written_down(request_):
    found = sensitivity.measure(request_, silent)
    assert found.complete
    assert found.ops == 2
    assert {step.keep_float for step in found.single} == {("sum",), ("product",)}
    assert found.whole is not None
    assert found.whole.sqnr_db is not None
    assert all(step.quality >= found.whole.sqnr_db - 0.5 for step in found.single)
    lines = [line for line in request_.journal.read_text().splitlines() if line]
    assert len(lines) == 3  # the one that grows is the one alone
    assert {step.keep_float for step in found.growing} <= {("sum",), ("product",)}


def test_what_the_journal_has_is_not_measured_again(request_):
    first = sensitivity.measure(request_, silent)
    before = request_.journal.read_text()
    assert sensitivity.measure(request_, silent) == first
    assert request_.journal.read_text() == before


def test_a_journal_that_was_cut_short_goes_on(request_):
    first = sensitivity.measure(request_, silent)
    whole = request_.journal.read_text()
    request_.journal.write_text(whole[: len(whole) * 2 // 3])
    assert sensitivity.measure(request_, silent) == first


def test_without_time_it_says_that_it_is_not_complete(request_):
    found = sensitivity.measure(replace(request_, seconds=-1.0), silent)
    assert not found.complete
    assert found.growing == ()


def test_the_most_sensitive_half_of_the_ops_grows():
    singles = [
        Step(keep_float=(name,), sqnr_db=db, size_bytes=1)
        for name, db in (("a", 20.0), ("b", 30.0), ("c", None), ("d", 25.0))
    ]
    assert sensitivity.growing_sets(singles, 4) == [("c",), ("c", "b")]
