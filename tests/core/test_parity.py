from typing import get_args

import numpy as np
import pytest

from edgeq.core.parity import compare
from edgeq.core.profile import Precision

HOST = [np.array([[0.0, 1.0], [0.25, 0.75]], np.float32)]


def test_equal_answers_are_identical():
    parity = compare(HOST, [HOST[0].copy()], "int8")
    assert (parity.samples, parity.max_abs_diff, parity.identical) == (2, 0.0, True)


@pytest.mark.parametrize(
    ("precision", "limit"),
    [
        ("int8", 0.25),
        ("int8-dynamic", 0.25),
        ("int4-weights", 0.25),
        ("mixed", 0.25),
        ("int16x8", 0.01),
        ("fp16", 0.01),
        ("float32", 1e-3),
    ],
)
def test_the_limit_is_a_share_of_the_outputs_range(precision, limit):
    parity = compare([HOST[0] * 10], [HOST[0] * 10 + 0.02], precision)
    assert parity.limit == pytest.approx(10 * limit)
    assert parity.max_abs_diff == pytest.approx(0.02, rel=1e-3)
    assert not parity.identical


@pytest.mark.parametrize(
    "device",
    [
        [],
        [HOST[0], HOST[0]],
        [HOST[0][:, :1]],
        [np.full((2, 2), np.nan, np.float32)],
        [np.full((2, 2), np.inf, np.float32)],
    ],
)
def test_answers_that_cannot_be_compared_have_no_difference(device):
    assert compare(HOST, device, "int8").max_abs_diff is None


def test_of_several_outputs_the_worst_for_its_range_counts():
    wide, narrow = HOST[0] * 100, HOST[0]
    parity = compare([wide, narrow], [wide + 1, narrow + 0.04], "int8")
    assert (parity.max_abs_diff, parity.limit) == pytest.approx((0.04, 0.25), rel=1e-3)


def test_constant_outputs_are_measured_by_their_size():
    assert compare([np.full((2, 3), 4.0, np.float32)], HOST[:0], "int8").max_abs_diff is None
    constant = np.full((2, 3), 4.0, np.float32)
    assert compare([constant], [constant], "int8").limit == pytest.approx(1.0)


def test_every_precision_has_a_limit():
    for precision in get_args(Precision):
        assert compare(HOST, HOST, precision).limit > 0


def classes(samples=8, count=10):
    """Outputs of a classifier that is sure of most samples."""
    logits = np.random.default_rng(5).normal(0, 4, (samples, count))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def passes(parity):
    return parity.max_abs_diff is not None and parity.max_abs_diff <= parity.limit


def test_single_values_may_be_many_steps_off():
    host = classes()
    device = host.copy()
    device[3] = host[3] + np.eye(10, dtype=np.float32)[1] * 0.127  # the most that was measured
    assert passes(compare([host], [device], "int8"))
    assert not passes(compare([host], [device], "int16x8"))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda host: host[:, ::-1], id="order"),
        pytest.param(lambda host: np.full_like(host, 0.1), id="constant"),
        pytest.param(lambda host: np.roll(host, 1, axis=0), id="another-sample"),
        pytest.param(lambda host: host * 0.5, id="scale"),
        pytest.param(lambda host: host + 0.06, id="offset"),
        pytest.param(lambda host: np.where(host > 0.5, 0.0, host), id="overflow"),
    ],
)
@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_wrong_kernel_is_off_everywhere_and_caught(wrong, precision):
    host = classes()
    assert not passes(compare([host], [wrong(host).astype(np.float32)], precision))
