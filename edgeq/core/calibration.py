"""Which samples calibrate, and what is wrong with the user's data, in plain sentences."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.errors import DataError

FEW_SAMPLES = 32
"""Fewer calibrate badly: one sample cost ResNet-8 8 dB of SQNR, ten 1.5 dB, fifty nothing."""

_SHOWN = 5
_NARROW = 0.5


def choose(samples: Samples, count: int) -> tuple[Samples, Samples | None]:
    """Take ``count`` samples, spread evenly over the classes and within each; and the rest.

    Both keep the source's order. The rest is None when nothing is left.
    """
    if count >= samples.count:
        return samples, None
    chosen = _spread_over_classes(samples.labels, samples.count, count)
    left = np.setdiff1d(np.arange(samples.count), chosen)
    return take(samples, chosen), take(samples, left)


def take(samples: Samples, places: npt.NDArray[np.int64]) -> Samples:
    """Some of the samples; the hash names which."""
    digest = hashlib.sha256(f"{samples.sha256}:{places.tolist()}".encode()).hexdigest()
    return replace(
        samples,
        inputs=tuple(array[places] for array in samples.inputs),
        labels=None if samples.labels is None else samples.labels[places],
        sha256=digest,
    )


def refuse_unusable(samples: Samples, inputs: Sequence[TensorSpec]) -> None:
    """Stop at values that no model can use.

    Raises:
        DataError: NaN or infinite values, or whole-number inputs that get fractions or too large
            values.
    """
    for array, spec in zip(samples.inputs, inputs, strict=True):
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            raise DataError(
                f"sample {int(np.argmin(finite))} of {samples.origin} has NaN or infinite values "
                f"(so have {int((~finite).sum())} of {len(array)})",
                hint="remove them, or mend what wrote them",
            )
        kind = np.dtype(spec.dtype)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            if (
                np.any(array != np.rint(array))
                or array.min() < limits.min
                or array.max() > limits.max
            ):
                raise DataError(
                    f"{samples.origin} has values from {array.min():g} to {array.max():g}, but "
                    f"input {spec.name} takes whole numbers ({spec.dtype})"
                )


def audit(
    calibration: Samples | None,
    evaluation: Samples | None,
    settings: Input,
    count: int,
    classes: int | None = None,
) -> tuple[str, ...]:
    """What looks wrong with all the data of which ``count`` samples calibrate.

    ``classes``: how many the model has; None when its output is no row of class scores.
    """
    found: list[str] = []
    for name, samples in (("calibration", calibration), ("evaluation", evaluation)):
        if samples is not None:
            found += samples.warnings
            found += _constant(name, samples)
            found += _duplicates(name, samples)
            found += _range_against_settings(name, samples, settings)
    if evaluation is not None and classes is not None:
        found += _other_classes(evaluation, classes)
    if calibration is not None:
        found += _too_few(min(count, calibration.count))
        if evaluation is not None:
            found += _missing_classes(calibration, evaluation)
            found += _overlap(calibration, evaluation)
            found += _ranges_apart(calibration, evaluation)
    return tuple(dict.fromkeys(found))


def _spread_over_classes(
    labels: npt.NDArray[np.int64] | None, total: int, count: int
) -> npt.NDArray[np.int64]:
    """Round after round one more of each class, each class's own spread evenly."""
    groups = [np.arange(total, dtype=np.int64)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    quota = np.zeros(len(groups), np.int64)
    sizes = np.array([len(group) for group in groups])
    while quota.sum() < count:
        open_groups = np.flatnonzero(quota < sizes)
        room = count - int(quota.sum())
        # the last, partial round is spread over the classes too
        quota[open_groups[spread(len(open_groups), room)]] += 1
    picked = [
        group[spread(len(group), int(n))] for group, n in zip(groups, quota, strict=True) if n > 0
    ]
    return np.sort(np.concatenate(picked)).astype(np.int64)


def _constant(name: str, samples: Samples) -> Iterator[str]:
    for array in samples.inputs:
        flat = array.reshape(len(array), -1)
        if flat.shape[1] > 1:
            constant = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
            if len(constant):
                yield (
                    f"blank {name} samples, of one value only: {len(constant)} "
                    f"(number {_listed(constant)})"
                )


def _duplicates(name: str, samples: Samples) -> Iterator[str]:
    digests = _digests(samples)
    repeated = len(digests) - len(set(digests))
    if repeated:
        yield f"{name} samples that are copies of others: {repeated}"


def _range_against_settings(name: str, samples: Samples, settings: Input) -> Iterator[str]:
    """Pixels of 0-255 where edgeq.toml expects 0-1, and the other way round."""
    low, high = _value_range(samples)
    expected_low, expected_high = settings.value_range
    span = expected_high - expected_low
    if settings == Input():  # edgeq.toml says nothing about values
        return
    if high > expected_high + 0.01 * span or low < expected_low - 0.01 * span:
        yield (
            f"the {name} data becomes {low:.4g} to {high:.4g} with [input] of edgeq.toml, but "
            f"pixels from 0 to 255 would become {expected_low:.4g} to {expected_high:.4g}: is its "
            "scale meant for other data?"
        )
    elif high - low < 0.02 * span:
        yield (
            f"the {name} data becomes {low:.4g} to {high:.4g} with [input] of edgeq.toml, a "
            f"small part of {expected_low:.4g} to {expected_high:.4g}: was it scaled before?"
        )


def _too_few(count: int) -> Iterator[str]:
    if count < FEW_SAMPLES:
        yield f"few calibration samples: {count}; {FEW_SAMPLES} to 100 give a better int8 model"


def _missing_classes(calibration: Samples, evaluation: Samples) -> Iterator[str]:
    if calibration.labels is None or evaluation.labels is None:
        return
    if calibration.label_names and evaluation.label_names:
        there = _names_with_samples(calibration)
        missing = [n for n in _names_with_samples(evaluation) if n not in there]
        unknown = [n for n in calibration.label_names if n not in evaluation.label_names]
    else:
        missing = sorted(
            str(n) for n in set(evaluation.labels.tolist()) - set(calibration.labels.tolist())
        )
        unknown = []
    if missing:
        yield f"classes missing from the calibration data: {_named(missing)}"
    if unknown:
        yield (
            f"classes missing from the evaluation data: {_named(unknown)}; class numbers follow "
            "the evaluation folders, so labels may be shifted"
        )


def _names_with_samples(samples: Samples) -> list[str]:
    """An empty class folder has a name, but no sample."""
    labels = () if samples.labels is None else np.unique(samples.labels).tolist()
    return [samples.label_names[label] for label in labels]


def _other_classes(evaluation: Samples, classes: int) -> Iterator[str]:
    """Folders are numbered by their order, so one that is missing shifts all after it."""
    if evaluation.labels is None:
        return
    names = len(evaluation.label_names)
    if names and names != classes:
        yield (
            f"the evaluation data has {names} class folders, the model {classes} classes: class "
            "numbers follow the sorted names of the folders, so labels may be shifted"
        )
    elif not names and (there := len(np.unique(evaluation.labels))) != classes:
        yield f"the evaluation data has samples of {there} classes, the model {classes} classes"


def shared(one: Samples, other: Samples) -> int:
    """How many different samples stand in both."""
    return len(set(_digests(one)) & set(_digests(other)))


def _overlap(calibration: Samples, evaluation: Samples) -> Iterator[str]:
    both = shared(calibration, evaluation)
    if both:
        yield f"evaluation samples that stand in the calibration data too: {both}"


def _ranges_apart(calibration: Samples, evaluation: Samples) -> Iterator[str]:
    low, high = _value_range(calibration)
    other_low, other_high = _value_range(evaluation)
    if high - low < _NARROW * (other_high - other_low):
        yield (
            f"the calibration data spans {low:.4g} to {high:.4g}, much less than the evaluation "
            f"data's {other_low:.4g} to {other_high:.4g}: values beyond it will be cut off"
        )
    elif other_high - other_low < _NARROW * (high - low):
        yield (
            f"the evaluation data spans {other_low:.4g} to {other_high:.4g}, much less than the "
            f"calibration data's {low:.4g} to {high:.4g}: were they scaled differently?"
        )


def _value_range(samples: Samples) -> tuple[float, float]:
    return (
        min(float(array.min()) for array in samples.inputs),
        max(float(array.max()) for array in samples.inputs),
    )


def _digests(samples: Samples) -> list[bytes]:
    return [
        hashlib.sha256(b"".join(array[i].tobytes() for array in samples.inputs)).digest()
        for i in range(samples.count)
    ]


def _listed(places: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(map(str, places[:_SHOWN].tolist()))
    return shown + (", …" if len(places) > _SHOWN else "")


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
