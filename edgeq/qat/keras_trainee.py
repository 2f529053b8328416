"""A tf-keras model that learns with int8 rounding in its way.

Imports tf-keras, so it is itself imported late.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from edgeq.core.samples import Samples
from edgeq.qat import keras_rounding, objective
from edgeq.qat.objective import LEAST_PROBABILITY, Loss, Targets
from edgeq.qat.plan import Plan
from edgeq.qat.work import OnBatch, Places, Score, TrainRequest

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
_MEASURED = 256  # samples to a batch where nothing is learned
_OPTIMIZER = "optimizer/"
_WEIGHT = "weight/"
_CLOCK = "clock"


class KerasTrainee:
    """See ``work.Trainee``.

    Args:
        plan: The model's.
        weights: By step, in the order of Keras.
        samples: That train, that choose the epoch, that give the ranges; inputs as the plan's.
        request: See there.
    """

    def __init__(
        self,
        plan: Plan,
        weights: Mapping[str, Sequence[Floats]],
        samples: Sequence[Samples],
        request: TrainRequest,
    ) -> None:
        self._training, self._kept_back, self._calibration = samples
        self._request = request
        self._plain = keras_rounding.plain(plan)
        self._rounding = keras_rounding.rounding(plan)
        self._plain.set_weights(weights)
        self._rounding.set_weights(weights)
        self._observer = tf_keras.Model(
            self._plain.model.inputs, [self._plain.tensors[name] for name in self._rounding.ranges]
        )
        widths = [int(np.prod(t.shape[1:].as_list())) for t in self._plain.model.outputs]
        self.objective = objective.choose(plan.ends, widths, request.classes)
        self._goals = self._goals_of(self._training, widths)
        self._aims = self._goals_of(self._kept_back, widths)
        self._divisors = self._goals.divisors(self.objective.losses)
        self._optimizer = tf_keras.optimizers.Adam(request.learning_rate)
        self._learned = self._rounding.model.trainable_variables
        self._optimizer.build(self._learned)
        self._learn = self._traced()
        self._set_ranges()

    def answers(self, inputs: Sequence[Floats]) -> list[Floats]:
        """The model's without rounding, as it is now; as rows of numbers."""
        return _predict(self._plain.model, inputs)

    def train(self, order: Places, on_batch: OnBatch) -> float:
        """See ``work.Trainee``."""
        total = 0.0
        for start in range(0, len(order), self._request.batch):
            places = order[start : start + self._request.batch]
            inputs = [array[places] for array in self._training.inputs]
            total += float(self._learn(inputs, self._goals.rows(places))) * len(places)
            on_batch(start + len(places))
        self._plain.set_weights(self._rounding.weights())
        self._set_ranges()
        return total / len(order)

    def measure(self) -> Score:
        """See ``work.Trainee``."""
        outputs = _predict(self._rounding.model, self._kept_back.inputs)
        places = np.arange(self._kept_back.count)
        losses = self._loss(outputs, self._aims.rows(places))
        return Score(
            loss=float(tf.reduce_mean(losses)),
            accuracy=self._aims.accuracy(outputs, self.objective.losses),
        )

    def state(self) -> Mapping[str, Array]:
        """See ``work.Trainee``."""
        memory = {
            f"{_OPTIMIZER}{place}": variable.numpy()
            for place, variable in enumerate(self._optimizer.variables)
        }
        weights = {f"{_WEIGHT}{name}": array for name, array in self.weights().items()}
        return {**memory, **weights, _CLOCK: self._rounding.clock.numpy()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """See ``work.Trainee``."""
        for place, variable in enumerate(self._optimizer.variables):
            variable.assign(state[f"{_OPTIMIZER}{place}"])
        self._rounding.clock.assign(state[_CLOCK])
        weights = {
            name: [state[f"{_WEIGHT}{name}/{place}"] for place in range(len(group))]
            for name, group in self._rounding.variables.items()
        }
        self._rounding.set_weights(weights)
        self._plain.set_weights(weights)
        self._set_ranges()

    def weights(self) -> Mapping[str, Array]:
        """As ``STEP/PLACE``, places in the order of Keras."""
        return {
            f"{name}/{place}": array
            for name, group in self._rounding.weights().items()
            for place, array in enumerate(group)
        }

    def _goals_of(self, samples: Samples, widths: Sequence[int]) -> Targets:
        if self.objective.has_labels and samples.labels is not None:
            return Targets(widths=tuple(widths), labels=samples.labels)
        outputs = tuple(_predict(self._plain.model, samples.inputs))
        return Targets(widths=tuple(widths), outputs=outputs)

    def _set_ranges(self) -> None:
        """What each rounded tensor spans on the calibration samples, as edgeq's own int8 does."""
        lows, highs = [], []
        for batch in _batches(self._calibration.inputs):
            tensors = self._observer(list(batch), training=False)
            tensors = tensors if isinstance(tensors, list) else [tensors]
            lows.append([float(tf.reduce_min(tensor)) for tensor in tensors])
            highs.append([float(tf.reduce_max(tensor)) for tensor in tensors])
        low, high = np.min(lows, axis=0), np.max(highs, axis=0)
        for place, ends in enumerate(self._rounding.ranges.values()):
            ends.assign(float(low[place]), float(high[place]))

    def _traced(self) -> Any:  # noqa: ANN401  untyped library
        # the float model's answers were given without dropout; with it they cannot be learnt
        drops = self.objective.has_labels

        def learn(inputs: Any, targets: Any) -> Any:  # noqa: ANN401
            with tf.GradientTape() as tape:
                outputs = tf.nest.flatten(self._rounding.model(inputs, training=drops))
                loss = tf.reduce_mean(self._loss(outputs, targets))
            gradients = tape.gradient(loss, self._learned)
            self._optimizer.apply_gradients(zip(gradients, self._learned, strict=True))
            self._rounding.clock.assign_add(1)
            return loss

        specs = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in self._plain.model.inputs]
        rows = [tf.TensorSpec((None, width)) for width in self._goals.widths]
        return tf.function(learn, input_signature=[specs, rows])

    def _loss(self, outputs: Sequence[Any], targets: Sequence[Any]) -> Any:  # noqa: ANN401
        """For each sample."""
        losses = [
            _LOSSES[kind](_rows(output), target) / divisor
            for kind, output, target, divisor in zip(
                self.objective.losses, outputs, targets, self._divisors, strict=True
            )
        ]
        return tf.add_n(losses)


def _cross_entropy(output: Any, target: Any) -> Any:  # noqa: ANN401
    return -tf.reduce_sum(target * _log(output), axis=1)


def _binary_cross_entropy(output: Any, target: Any) -> Any:  # noqa: ANN401
    terms = target * _log(output) + (1 - target) * _log(1 - output)
    return -tf.reduce_mean(terms, axis=1)


def _cross_entropy_of_scores(output: Any, target: Any) -> Any:  # noqa: ANN401
    return tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=output)


def _binary_cross_entropy_of_score(output: Any, target: Any) -> Any:  # noqa: ANN401
    terms = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=output)
    return tf.reduce_mean(terms, axis=1)


def _squared_error(output: Any, target: Any) -> Any:  # noqa: ANN401
    return tf.reduce_mean(tf.square(output - target), axis=1)


_LOSSES: dict[Loss, Callable[[Any, Any], Any]] = {
    "softmax": _cross_entropy,
    "sigmoid": _binary_cross_entropy,
    "scores": _cross_entropy_of_scores,
    "score": _binary_cross_entropy_of_score,
    "values": _squared_error,
}


def _log(probability: Any) -> Any:  # noqa: ANN401
    return tf.math.log(tf.maximum(probability, LEAST_PROBABILITY))


def _rows(output: Any) -> Any:  # noqa: ANN401
    return tf.reshape(output, (tf.shape(output)[0], -1))


def _predict(model: Any, inputs: Sequence[Floats]) -> list[Floats]:  # noqa: ANN401
    """Each output as rows of numbers."""
    parts = [tf.nest.flatten(model(list(b), training=False)) for b in _batches(inputs)]
    outputs = (np.concatenate([part.numpy() for part in each]) for each in zip(*parts, strict=True))
    return [array.reshape(len(array), -1) for array in outputs]


def _batches(inputs: Sequence[Floats]) -> Iterator[tuple[Floats, ...]]:
    for start in range(0, len(inputs[0]), _MEASURED):
        yield tuple(array[start : start + _MEASURED] for array in inputs)
