"""What int8 is worth with training and without, measured on the same samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeq import convert
from edgeq.convert import Gathered
from edgeq.core import gates, qat
from edgeq.core.model import Artifact, FloatModel
from edgeq.core.qat import Method, Row, RowName
from edgeq.core.quality import Comparison, Quality
from edgeq.core.samples import Samples
from edgeq.errors import GateError, ModelError
from edgeq.places import Places
from edgeq.ports import Array, Floats, OnProgress, Predict, Recipe

_NOT_EQUALIZED = "not equalized: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """``before``: the user's model, ``after``: the trained one; both with the same calibration."""

    before: Gathered
    after: Gathered
    recipe: Recipe
    evaluation: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """See ``core.qat.QatReport``."""

    rows: tuple[Row, ...]
    own_sqnr_db: float | None
    best: Method
    advice: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Figures:
    """``right``: which samples get the label, else the float model's choice; None: no choice."""

    quality: Quality
    right: npt.NDArray[np.bool_] | None


def judge(
    subjects: Subjects, predict: Predict, *, places: Places, on_progress: OnProgress
) -> Judged:
    """Quantize without training, with equalization, with training; run all, and compare.

    Raises:
        ModelError, GateError: the trained model cannot be quantized to int8, or gives NaN.
        DataError: labels that the model has no class for.
        WorkerError: a worker crashed or went beyond its limits.
    """
    artifacts, refusals = _artifacts(subjects, places, on_progress)
    on_progress("compare", 0, 0)
    inputs = _typed(subjects.evaluation, subjects.before.pivot)
    expected = predict(subjects.before.pivot.path, inputs)
    outputs: dict[RowName, list[Floats]] = {"float": expected}
    outputs |= {name: predict(artifact.path, inputs) for name, artifact in artifacts.items()}
    outputs["qat-float"] = predict(subjects.after.pivot.path, inputs)
    figures = {name: _compare(subjects, expected, found) for name, found in outputs.items()}
    sizes = {name: artifact.size_bytes for name, artifact in artifacts.items()}
    sizes["float"] = subjects.before.pivot.path.stat().st_size
    sizes["qat-float"] = subjects.after.pivot.path.stat().st_size
    rows = tuple(_row(n, figures.get(n), sizes.get(n), refusals) for n in qat.ROWS)
    own = _compare(subjects, outputs["qat-float"], outputs["qat"]).quality
    notes = [*(w for a in artifacts.values() for w in a.warnings), *_gated(own)]
    best = _best({method: figures[method] for method in qat.METHODS if method in figures})
    return Judged(
        rows=rows,
        own_sqnr_db=own.sqnr_db,
        best=best,
        advice=qat.advise(best, rows, subjects.evaluation.count),
        warnings=tuple(dict.fromkeys(notes)),
    )


def _gated(own: Quality) -> Iterator[str]:
    """The gates compare with the trained float model, which training with rounding may ruin."""
    agreement = own.top1_agreement
    if agreement is not None and agreement < gates.MIN_AGREEMENT:
        yield (
            f"the trained model's int8 chooses the class of its own float on only {agreement:.0%} "
            "of the samples: deploy and convert may stop at their gate; --min-agreement lowers it"
        )


def _artifacts(
    subjects: Subjects, places: Places, on_progress: OnProgress
) -> tuple[dict[RowName, Artifact], dict[RowName, str]]:
    """int8 of each method, and why there is none of some that go before the training."""
    plain = replace(subjects.recipe, equalize=False)
    wanted: dict[RowName, tuple[Gathered, Recipe]] = {
        "ptq": (subjects.before, plain),
        "ptq-cle": (subjects.before, replace(plain, equalize=True)),
        "qat": (subjects.after, plain),
    }
    made: dict[RowName, Artifact] = {}
    refusals: dict[RowName, str] = {}
    for name, (gathered, recipe) in wanted.items():
        try:
            artifact, _ = convert.quantize(gathered, recipe, places=places, on_progress=on_progress)
        except (ModelError, GateError) as error:
            if name == "qat":
                raise
            refusals[name] = error.message
            continue
        reasons = [w for w in artifact.warnings if w.startswith(_NOT_EQUALIZED)]
        if reasons:
            refusals[name] = reasons[0]
        else:
            made[name] = artifact
    return made, refusals


def _typed(samples: Samples, pivot: FloatModel) -> list[Array]:
    pairs = zip(samples.inputs, pivot.inputs, strict=True)
    return [array.astype(spec.dtype) for array, spec in pairs]


def _compare(subjects: Subjects, expected: Sequence[Floats], outputs: Sequence[Floats]) -> _Figures:
    comparison = Comparison(subjects.before.pivot.inputs)
    readings = comparison.add(expected, outputs, subjects.evaluation.labels)
    found = comparison.quality("evaluation")
    if found.top1_agreement is None:
        return _Figures(quality=found, right=None)
    batch = readings[comparison.scores.kind]
    if batch.one is None or batch.other is None:
        return _Figures(quality=found, right=None)
    right = batch.other.right
    return _Figures(
        quality=found, right=batch.other.chosen == batch.one.chosen if right is None else right
    )


def _row(
    name: RowName, figures: _Figures | None, size_bytes: int | None, refusals: Mapping[RowName, str]
) -> Row:
    if figures is None:
        return Row(name=name, unavailable={"all": refusals[name]})
    found = figures.quality
    unavailable = dict(reason.split(": ", 1) for reason in found.reasons)
    return Row(
        name=name,
        accuracy=found.artifact_accuracy,
        accuracy_drop=found.accuracy_drop,
        agreement=found.top1_agreement,
        sqnr_db=found.sqnr_db,
        cosine=found.cosine,
        size_bytes=size_bytes,
        unavailable=unavailable,
    )


def _best(figures: Mapping[Method, _Figures]) -> Method:
    right = {method: f.right for method, f in figures.items() if f.right is not None}
    if right:
        return qat.best_by_answers(right)
    return qat.best_by_noise({method: f.quality.sqnr_db for method, f in figures.items()})
