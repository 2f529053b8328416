"""A PyTorch program that learns with int8 rounding in its way.

Imports torch, so it is itself imported late.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.core.samples import Samples
from edgeq.qat import objective
from edgeq.qat.objective import LEAST_PROBABILITY, Loss, Targets
from edgeq.qat.torch_rounding import Rounding
from edgeq.qat.work import OnBatch, Places, Score, TrainRequest

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
_MEASURED = 256  # samples to a batch where nothing is learned
_OPTIMIZER = "optimizer/"
_WEIGHT = "weight/"


class TorchTrainee:
    """See ``work.Trainee``.

    Args:
        rounding: The program's.
        samples: That train, that choose the epoch, that give the ranges; inputs as the program's.
        request: See there.
        most: Samples that the program takes at once.
    """

    def __init__(
        self,
        rounding: Rounding,
        samples: Sequence[Samples],
        request: TrainRequest,
        most: int,
    ) -> None:
        self._training, self._kept_back, self._calibration = samples
        self._request = request
        self._rounding = rounding
        self._most = most
        self._parameters = rounding.parameters()
        self._optimizer = torch.optim.Adam(
            list(self._parameters.values()), lr=request.learning_rate, eps=_EPSILON
        )
        rounding.round_nothing()
        outputs = self.answers([array[:1] for array in self._training.inputs])
        widths = [array.shape[1] for array in outputs]
        self.objective = objective.choose(rounding.plan.ends, widths, request.classes)
        self._goals = self._goals_of(self._training, widths)
        self._aims = self._goals_of(self._kept_back, widths)
        self._divisors = self._goals.divisors(self.objective.losses)
        self._set_ranges()

    def answers(self, inputs: Sequence[Floats]) -> list[Floats]:
        """As it computes now; each output as rows of numbers."""
        with torch.no_grad():
            parts = [
                self._rows([array[place] for array in inputs])
                for place in _slices(len(inputs[0]), min(self._most, _MEASURED))
            ]
        return [torch.cat(each).numpy() for each in zip(*parts, strict=True)]

    def train(self, order: Places, on_batch: OnBatch) -> float:
        """See ``work.Trainee``. A batch that the program cannot take at once is summed up."""
        total = 0.0
        for batch in _slices(len(order), self._request.batch):
            places = order[batch]
            self._optimizer.zero_grad()
            for part in _slices(len(places), self._most):
                losses = self._losses(places[part])
                (losses.sum() / len(places)).backward()
                total += float(losses.sum().detach())
            self._optimizer.step()
            on_batch(batch.start + len(places))
        self._set_ranges()
        return total / len(order)

    def measure(self) -> Score:
        """See ``work.Trainee``."""
        outputs = self.answers(self._kept_back.inputs)
        targets = self._aims.rows(np.arange(self._kept_back.count))
        losses = self._loss(
            [torch.from_numpy(a) for a in outputs], [torch.from_numpy(a) for a in targets]
        )
        return Score(
            loss=float(losses.mean()),
            accuracy=self._aims.accuracy(outputs, self.objective.losses),
        )

    def state(self) -> Mapping[str, Array]:
        """See ``work.Trainee``."""
        arrays = {f"{_WEIGHT}{name}": array for name, array in self.weights().items()}
        for name, parameter in self._parameters.items():
            for what, value in self._optimizer.state[parameter].items():
                arrays[f"{_OPTIMIZER}{what}/{name}"] = value.numpy().copy()
        return arrays

    def restore(self, state: Mapping[str, Array]) -> None:
        """See ``work.Trainee``."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(torch.from_numpy(state[f"{_WEIGHT}{name}"]))
                memory = self._optimizer.state[parameter]
                for what in _MEMORY:
                    if (key := f"{_OPTIMIZER}{what}/{name}") in state:
                        memory[what] = torch.from_numpy(state[key].copy())
        self._set_ranges()

    def weights(self) -> Mapping[str, Array]:
        """By the program's names."""
        return {name: p.detach().numpy().copy() for name, p in self._parameters.items()}

    def _goals_of(self, samples: Samples, widths: Sequence[int]) -> Targets:
        if self.objective.has_labels and samples.labels is not None:
            return Targets(widths=tuple(widths), labels=samples.labels)
        return Targets(widths=tuple(widths), outputs=tuple(self.answers(samples.inputs)))

    def _set_ranges(self) -> None:
        """What each rounded tensor spans on the calibration samples, as edgeq's own int8 does."""
        self._rounding.round_nothing()
        self.answers(self._calibration.inputs)
        self._rounding.round_all()

    def _losses(self, places: Places) -> Any:  # noqa: ANN401  untyped library
        """For each of some training samples."""
        outputs = self._rows([array[places] for array in self._training.inputs])
        return self._loss(outputs, [torch.from_numpy(a) for a in self._goals.rows(places)])

    def _rows(self, inputs: Sequence[Array]) -> list[Any]:
        outputs = self._rounding(self._rounding.tensors(inputs))
        return [output.reshape(len(inputs[0]), -1) for output in outputs]

    def _loss(self, outputs: Sequence[Any], targets: Sequence[Any]) -> Any:  # noqa: ANN401
        """For each sample."""
        parts = zip(self.objective.losses, outputs, targets, self._divisors, strict=True)
        return torch.stack([_LOSSES[k](out, aim) / by for k, out, aim, by in parts]).sum(0)


_EPSILON = 1e-7  # Keras' Adam has it too, so that a learning rate means the same
_MEMORY = ("step", "exp_avg", "exp_avg_sq")


def _cross_entropy(output: Any, target: Any) -> Any:  # noqa: ANN401
    return -(target * _log(output)).sum(1)


def _binary_cross_entropy(output: Any, target: Any) -> Any:  # noqa: ANN401
    return -(target * _log(output) + (1 - target) * _log(1 - output)).mean(1)


def _cross_entropy_of_scores(output: Any, target: Any) -> Any:  # noqa: ANN401
    return -(target * output.log_softmax(1)).sum(1)


def _binary_cross_entropy_of_score(output: Any, target: Any) -> Any:  # noqa: ANN401
    function = torch.nn.functional.binary_cross_entropy_with_logits
    return function(output, target, reduction="none").mean(1)


def _squared_error(output: Any, target: Any) -> Any:  # noqa: ANN401
    return (output - target).square().mean(1)


_LOSSES: dict[Loss, Callable[[Any, Any], Any]] = {
    "softmax": _cross_entropy,
    "sigmoid": _binary_cross_entropy,
    "scores": _cross_entropy_of_scores,
    "score": _binary_cross_entropy_of_score,
    "values": _squared_error,
}


def _log(probability: Any) -> Any:  # noqa: ANN401
    return probability.clamp_min(LEAST_PROBABILITY).log()


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
