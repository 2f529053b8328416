"""Quantization-aware training of a Keras model, by tensorflow-model-optimization and tf-keras.

The user's model is loaded by Keras 3 and built again in tf-keras twice: as it is, and with int8
rounding where a TFLite runtime rounds (``keras_plan.rounded``). The rounded one learns; its weights
go back into the user's model, which Keras 3 writes. So what comes out is an ordinary float model,
whose ranges are found by the calibration that every model goes through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.errors import ModelError
from edgeq.loaders import keras as loader
from edgeq.qat import keras_plan, work
from edgeq.qat.plan import Plan, weight_count
from edgeq.qat.work import OnProgress, Trained, TrainRequest

Floats = npt.NDArray[np.float32]
_CHECKED = 16
_TOLERANCE = 1e-3  # as for a pivot, see loaders.pivot
_TOOLS = ("tensorflow-cpu", "tensorflow", "keras", "tf-keras", "tensorflow-model-optimization")


def train(request: TrainRequest, on_progress: OnProgress) -> Trained:
    """Train in this process and write the model of the best epoch.

    Raises:
        ModelError: a layer is not covered, or the loss became no number.
    """
    import tensorflow as tf

    from edgeq.qat.keras_trainee import KerasTrainee

    on_progress("load", 0, 0)
    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(request.seed)
    model = loader.open_model(request.source, request.folder)
    plan = keras_plan.parse(model.get_config(), type(model).__name__)
    names = loader.input_names(model)
    folders = (request.training, request.kept_back, request.calibration)
    samples = tuple(_in_order(stored.read(folder, ""), request, names) for folder in folders)
    trainee = KerasTrainee(plan, _weights(model, plan), samples, request)
    difference = _check(model, trainee.answers, samples[0], request.source.path.name)
    done, resumed_at = work.run(trainee, request, samples[0].count, on_progress)
    path = request.folder / f"trained{request.suffix}"
    _put_back(model, plan, done.best_weights)
    model.save(path)
    return Trained(
        path=path,
        objective=trainee.objective.words,
        epochs=done.epochs,
        best=done.best,
        resumed_at=resumed_at,
        check_max_abs_diff=difference,
        tools=_versions(),
    )


def _in_order(samples: Samples, request: TrainRequest, names: Sequence[str]) -> Samples:
    """The inputs as the Keras model has them."""
    places = [request.input_names.index(name) for name in names]
    return replace(samples, inputs=tuple(samples.inputs[place] for place in places))


def _weights(model: Any, plan: Plan) -> dict[str, list[Floats]]:  # noqa: ANN401  untyped library
    """The user's weights by step; a separable convolution's stand in the order of its steps."""
    left: dict[tuple[str, ...], list[Floats]] = {}
    weights: dict[str, list[Floats]] = {}
    for step in plan.steps:
        if not step.owner:
            continue
        if step.owner not in left:
            left[step.owner] = list(_owner(model, step.owner).get_weights())
        count = weight_count(step)
        weights[step.name] = left[step.owner][:count]
        del left[step.owner][:count]
    return weights


def _put_back(model: Any, plan: Plan, weights: Mapping[str, Floats]) -> None:  # noqa: ANN401
    """The other way round; ``weights`` are called ``STEP/PLACE``."""
    collected: dict[tuple[str, ...], list[Floats]] = {}
    for step in plan.steps:
        if step.owner:
            count = weight_count(step)
            own = [weights[f"{step.name}/{place}"] for place in range(count)]
            collected.setdefault(step.owner, []).extend(own)
    for owner, values in collected.items():
        _owner(model, owner).set_weights(values)


def _owner(model: Any, owner: Sequence[str]) -> Any:  # noqa: ANN401  untyped library
    for name in owner:
        model = model.get_layer(name)
    return model


def _check(model: Any, answers: Any, samples: Samples, name: str) -> float:  # noqa: ANN401
    """Largest difference between the user's model and the one built again.

    Raises:
        ModelError: they are not the same.
    """
    batch = [array[:_CHECKED] for array in samples.inputs]
    import keras

    arrays = batch[0] if len(batch) == 1 else batch
    expected = [np.asarray(v) for v in keras.tree.flatten(model(arrays, training=False))]
    largest = 0.0
    for want, got in zip(expected, answers(batch), strict=True):
        difference = float(np.max(np.abs(want.reshape(got.shape) - got), initial=0.0))
        scale = float(np.max(np.abs(want), initial=0.0))
        if not difference <= _TOLERANCE * max(scale, _TOLERANCE):
            raise ModelError(
                f"{name} cannot be trained: built again in tf-keras its answers are off by "
                f"{difference:.3g} (largest value {scale:.3g})",
                hint="one of its layers means something else in Keras 2; edgeq convert --precision "
                "auto does without training",
            )
        largest = max(largest, difference)
    return largest


def _versions() -> dict[str, str]:
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
