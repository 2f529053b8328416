"""The epochs: best one, interruption, damage; the framework is a line fitted by NumPy."""

from pathlib import Path

import numpy as np
import pytest

from edgeq.core.model import Source
from edgeq.errors import ModelError
from edgeq.qat import checkpoint, work
from edgeq.qat.work import Score, TrainRequest

SAMPLES = 64


class Interrupted(BaseException):
    pass


class Line:
    """Fits y = 3 x by stochastic descent with momentum, whose state must survive too."""

    def __init__(self, rate, stop_after=None, accuracies=None):
        self.x = np.linspace(-1, 1, SAMPLES)
        self.weight, self.speed, self.rate = np.zeros(1), np.zeros(1), rate
        self.epochs, self.stop_after, self.accuracies = 0, stop_after, accuracies

    def train(self, order, on_batch):
        if self.epochs == self.stop_after:
            raise Interrupted
        self.epochs += 1
        for done, i in enumerate(order, 1):
            gradient = 2 * (self.weight - 3) * self.x[i] ** 2
            self.speed = 0.9 * self.speed - self.rate * gradient
            self.weight = self.weight + self.speed
            on_batch(done)
        return float(np.mean((self.weight - 3) ** 2))

    def measure(self):
        accuracy = self.accuracies.pop(0) if self.accuracies else None
        return Score(loss=float((self.weight[0] - 3) ** 2), accuracy=accuracy)

    def state(self):
        return {"weight": self.weight.copy(), "speed": self.speed.copy()}

    def restore(self, state):
        self.weight, self.speed = state["weight"], state["speed"]

    def weights(self):
        return {"weight": self.weight.copy()}


def request(folder, epochs):
    source = Source(path=Path("m"), name="m", kind="keras", sha256="0", size_bytes=1)
    return TrainRequest(
        source=source, input_names=("x",), training=folder, kept_back=folder, calibration=folder,
        folder=folder, suffix=".keras", classes=None, epochs=epochs, learning_rate=0.01, batch=1,
        seed=5,
    )  # fmt: skip


def quiet(_phase, _done, _total):
    pass


def test_an_interrupted_training_ends_where_an_unbroken_one_does(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    whole, resumed_at = work.run(Line(0.001), request(tmp_path / "one", 6), SAMPLES, quiet)
    assert resumed_at == 0
    with pytest.raises(Interrupted):
        work.run(Line(0.001, stop_after=4), request(tmp_path / "two", 6), SAMPLES, quiet)
    broken, resumed_at = work.run(Line(0.001), request(tmp_path / "two", 6), SAMPLES, quiet)
    assert resumed_at == 4
    assert broken.epochs == whole.epochs
    assert np.array_equal(broken.best_weights["weight"], whole.best_weights["weight"])
    assert np.array_equal(broken.state["speed"], whole.state["speed"])


def test_more_epochs_go_on_from_a_finished_training(tmp_path):
    work.run(Line(0.001), request(tmp_path, 3), SAMPLES, quiet)
    line = Line(0.001)
    done, resumed_at = work.run(line, request(tmp_path, 5), SAMPLES, quiet)
    assert (resumed_at, line.epochs, done.done) == (3, 2, 5)


def test_fewer_epochs_train_anew_as_if_nothing_had_been(tmp_path):
    work.run(Line(0.001), request(tmp_path, 5), SAMPLES, quiet)
    line = Line(0.001)
    done, resumed_at = work.run(line, request(tmp_path, 2), SAMPLES, quiet)
    assert (resumed_at, line.epochs, done.done) == (0, 2, 2)


def test_a_finished_training_is_not_repeated(tmp_path):
    first, _ = work.run(Line(0.001), request(tmp_path, 3), SAMPLES, quiet)
    line = Line(0.001)
    again, _ = work.run(line, request(tmp_path, 3), SAMPLES, quiet)
    assert line.epochs == 0
    assert again.epochs == first.epochs


def test_the_epoch_with_the_best_accuracy_is_kept_and_the_loss_breaks_ties(tmp_path):
    line = Line(0.001, accuracies=[0.9, 0.5, 0.7, 0.7, 0.6])
    done, _ = work.run(line, request(tmp_path, 4), SAMPLES, quiet)
    by_hand = Line(0.001)
    for number in (1, 2, 3):
        by_hand.train(np.random.default_rng((5, number)).permutation(SAMPLES), lambda _: None)
    assert done.best == 3
    assert np.array_equal(done.best_weights["weight"], by_hand.weight)


def test_without_labels_the_smallest_loss_is_best(tmp_path):
    done, _ = work.run(Line(0.001), request(tmp_path, 5), SAMPLES, quiet)
    losses = [epoch.validation_loss for epoch in done.epochs[1:]]
    assert done.best == 1 + losses.index(min(losses))


def test_a_damaged_checkpoint_is_as_none(tmp_path):
    work.run(Line(0.001), request(tmp_path, 2), SAMPLES, quiet)
    path = tmp_path / "checkpoint.npz"
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"x" + data[1:], data.replace(b"\x93NUMPY", b"no")):
        path.write_bytes(broken)
        assert checkpoint.load(tmp_path) is None
    done, resumed_at = work.run(Line(0.001), request(tmp_path, 2), SAMPLES, quiet)
    assert (resumed_at, done.done) == (0, 2)


def test_what_a_kill_left_beside_the_checkpoint_does_not_matter(tmp_path):
    work.run(Line(0.001), request(tmp_path, 2), SAMPLES, quiet)
    (tmp_path / "checkpoint.npz.part").write_bytes(b"half")
    done, resumed_at = work.run(Line(0.001), request(tmp_path, 3), SAMPLES, quiet)
    assert (resumed_at, done.done) == (2, 3)
    assert not (tmp_path / "checkpoint.npz.part").exists()


def test_a_loss_that_is_no_number_stops_with_a_smaller_step_as_the_mend(tmp_path):
    with np.errstate(all="ignore"), pytest.raises(ModelError, match="loss of epoch 1") as caught:
        work.run(Line(1e6), request(tmp_path, 2), SAMPLES, quiet)
    assert caught.value.hint == "a smaller step: --learning-rate 0.001"


def test_progress_tells_batches_and_the_end_of_each_epoch(tmp_path):
    told = []
    work.run(Line(0.001), request(tmp_path, 2), SAMPLES, lambda *a: told.append(a))
    assert ("epoch 1 of 2", 10, SAMPLES) in told
    ends = [phase for phase, _, _ in told if phase.startswith("epoch 2 of 2: loss ")]
    assert len(ends) == 1
