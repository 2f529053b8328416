"""Quantization-aware training: from a float model to one whose weights bear int8.

The model is trained in an environment of its own (``edgeq.qat``), with int8 rounding in its way.
What comes out is a float model again, converted like any other; whether that was worth it shows in
a comparison with int8 that no training went before, on the same samples.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgeq import cache, convert, environments, judging, sources, worker
from edgeq.convert import ConvertJob, Gathered
from edgeq.core import calibration, holdout, qat, quality
from edgeq.core.model import FloatModel
from edgeq.core.profile import NamedProfile
from edgeq.core.project import Project
from edgeq.core.qat import EvaluationSection, QatReport, TrainingSection
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.errors import DataError, ModelError
from edgeq.here import lazy_predictor
from edgeq.judging import Judged, Subjects
from edgeq.places import Places
from edgeq.ports import OnProgress
from edgeq.qat import keras, torch
from edgeq.qat.work import Trained, TrainRequest
from edgeq.sources import Data, Model
from edgeq.training_state import training_state

LEARNING_RATE = 1e-4
BATCH = 32
_FORMAT = 1  # of what a checkpoint holds; raise it when training cannot go on from an older one
_SETS = ("training", "kept_back", "calibration")
_NO_LIMIT_S = 365 * 24 * 3600.0
_MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How a kind of model is trained. ``suffixes``: of the file that comes out, the usual first."""

    environment: str
    work: Callable[[TrainRequest, OnProgress], Trained]
    suffixes: tuple[str, ...]


_KERAS = _Kind(environment="qat", work=keras.train, suffixes=(".keras", ".h5"))
_TORCH = _Kind(environment="torch", work=torch.train, suffixes=(".pt2",))
_KINDS = {"keras-h5": _KERAS, "keras": _KERAS, "torch-export": _TORCH}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What the user asked for.

    Attributes:
        training: Data that trains; a tenth of it is kept back and chooses the epoch.
        evaluation: What the report is measured on; None: the project's, else the tenth.
        suffix: Of the file to write.
    """

    model: Path
    profile: NamedProfile
    project: Project
    training: Path
    evaluation: Path | None
    suffix: str
    epochs: int
    learning_rate: float = LEARNING_RATE
    batch: int = BATCH
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``model``: the contents of the file to write."""

    report: QatReport
    model: bytes


def suffixes(model: Path) -> tuple[str, ...]:
    """What the trained model's file may end in, the usual first.

    Raises:
        ModelError: there is no such model, or training does not take its kind.
    """
    return _kind(sources.identify_model(model)).suffixes


def train(job: TrainJob, *, created: str, places: Places, on_progress: OnProgress) -> Result:
    """Train, convert with training and without, compare.

    A run of the same job that was interrupted is gone on with. ``created``: UTC, ISO 8601.

    Raises:
        ModelError: the model cannot be trained or converted; with the layer.
        DataError: the data cannot be used.
        HostError: the environment cannot be built, or another edgeq trains the same.
        WorkerError: a worker crashed or went beyond its limits.
    """
    model = sources.identify_model(job.model)
    kind = _kind(model)
    given = sources.identify_data(job.training)
    before = convert.gather(_job(job, job.model), places=places, on_progress=on_progress)
    data = _divide(job, given, before, places)
    with training_state(_key(job, model, kind, data), places) as folder:
        python = environments.ensure(kind.environment, places, on_progress)
        trained = worker.call(
            kind.work,
            _request(job, model, data, before.pivot, folder),
            log=places.log / f"train-{model.source.sha256[:12]}.log",
            limits=_limits(),
            on_progress=on_progress,
            python=python,
        )
        for name in _SETS:
            stored.remove(folder / name)
        contents = trained.path.read_bytes()
        after = convert.gather(_job(job, trained.path), places=places, on_progress=on_progress)
    recipe = convert.recipe(_job(job, job.model))
    subjects = Subjects(before=before, after=after, recipe=recipe, evaluation=data.evaluation)
    with lazy_predictor(places) as predict:
        judged = judging.judge(subjects, predict, places=places, on_progress=on_progress)
    return Result(report=_report(job, model, data, trained, judged, created), model=contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Division:
    """``kept_back`` chooses the epoch; ``warnings``: plain sentences."""

    training: Samples
    kept_back: Samples
    calibration: Samples
    evaluation: Samples
    classes: int | None
    warnings: tuple[str, ...]


def _kind(model: Model) -> _Kind:
    kind = _KINDS.get(model.source.kind)
    if kind is None:
        raise ModelError(
            f"{model.source.path} is {model.source.kind}, which cannot be trained",
            hint="name the Keras model (.keras, .h5) or PyTorch's (.pt2) that it was made from",
        )
    return kind


def _job(job: TrainJob, model: Path) -> ConvertJob:
    """int8 of the user's model or of the trained one, with the same calibration."""
    beside = job.model.absolute().parent
    in_project = job.project.calibration.path
    labelled = job.project.evaluation.path
    evaluation = job.evaluation or (beside / labelled if labelled else None)
    return ConvertJob(
        model=model,
        profile=job.profile.profile,
        project=job.project,
        calibration=beside / in_project if in_project else job.training,
        evaluation=evaluation,
        precision="int8",
    )


def _divide(job: TrainJob, given: Data, before: Gathered, places: Places) -> _Division:
    everything = convert.samples(given, before.pivot, job.project, places)
    training, kept_back = holdout.split(everything, job.seed)
    chosen = before.calibration or training
    classes = _classes(before.pivot, everything)
    notes = [*before.warnings]
    if everything.labels is not None and classes is None:
        notes.append(
            f"the labels of {everything.origin} train nothing: the model's output is no choice "
            "between classes, so it learns its own float answers"
        )
    if before.evaluation is None:
        notes.append(
            "no evaluation data: the figures are from the tenth of the training data that chose "
            "the epoch, so the trained model's are a little too good; give --evaluate PATH"
        )
    elif both := calibration.shared(everything, before.evaluation):
        notes.append(
            f"evaluation samples that stand in the training data too: {both}; the trained "
            "model's figures are too good"
        )
    return _Division(
        training=training,
        kept_back=kept_back,
        calibration=chosen,
        evaluation=before.evaluation or kept_back,
        classes=classes,
        warnings=tuple(notes),
    )


def _classes(pivot: FloatModel, samples: Samples) -> int | None:
    """What the labels count; None: none that the model could learn."""
    if samples.labels is None:
        return None
    classes = quality.classes_of(pivot.outputs, pivot.inputs)
    if classes is None and len(pivot.outputs) == 1 and np.prod(pivot.outputs[0].shape) == 1:
        classes = 2
    largest = int(samples.labels.max())
    if classes is not None and largest >= classes:
        raise DataError(
            f"a label in {samples.origin} is {largest}, but the model has {classes} classes",
            hint="labels count from 0; do the class folders belong to this model?",
        )
    return classes


def _key(job: TrainJob, model: Model, kind: _Kind, data: _Division) -> str:
    """Of all that an epoch depends on; how many epochs there shall be is no part of it."""
    return cache.key_of(
        {
            "format": _FORMAT,
            "source": model.source.sha256,
            "kind": model.source.kind,
            "environment": environments.fingerprint(kind.environment),
            "samples": [s.sha256 for s in (data.training, data.kept_back, data.calibration)],
            "classes": data.classes,
            "batch": job.batch,
            "learning_rate": job.learning_rate,
            "seed": job.seed,
        }
    )


def _request(
    job: TrainJob, model: Model, data: _Division, pivot: FloatModel, folder: Path
) -> TrainRequest:
    sets = (data.training, data.kept_back, data.calibration)
    for name, samples in zip(_SETS, sets, strict=True):
        (folder / name).mkdir(exist_ok=True)
        stored.write(samples, folder / name)
    return TrainRequest(
        source=model.source,
        input_names=tuple(spec.name for spec in pivot.inputs),
        training=folder / "training",
        kept_back=folder / "kept_back",
        calibration=folder / "calibration",
        folder=folder,
        suffix=job.suffix,
        classes=data.classes,
        epochs=job.epochs,
        learning_rate=job.learning_rate,
        batch=job.batch,
        seed=job.seed,
    )


def _limits() -> worker.Limits:
    """Training takes what it takes; only the machine is kept alive."""
    import psutil

    total_mib = psutil.virtual_memory().total >> 20
    return worker.Limits(memory_mib=int(total_mib * _MEMORY_SHARE), timeout_s=_NO_LIMIT_S)


def _report(
    job: TrainJob, model: Model, data: _Division, trained: Trained, judged: Judged, created: str
) -> QatReport:
    source = model.source
    return QatReport(
        created=created,
        model=qat.ModelSection(
            name=source.name, sha256=source.sha256, size_bytes=source.size_bytes, source=source.kind
        ),
        profile=job.profile.name,
        format=job.profile.profile.conversion.format,
        training=TrainingSection(
            objective=trained.objective,
            origin=str(job.training),
            samples=data.training.count,
            kept_back=data.kept_back.count,
            calibration_samples=data.calibration.count,
            batch=job.batch,
            learning_rate=job.learning_rate,
            seed=job.seed,
            best_epoch=trained.best,
            resumed_at=trained.resumed_at,
            epochs=tuple(qat.EpochSection(**asdict(epoch)) for epoch in trained.epochs),
            tools=trained.tools,
        ),
        evaluation=EvaluationSection(
            origin=data.evaluation.origin,
            samples=data.evaluation.count,
            labelled=data.evaluation.labels is not None,
            chose_epoch=data.evaluation is data.kept_back,
        ),
        rows=judged.rows,
        own_sqnr_db=judged.own_sqnr_db,
        best=judged.best,
        advice=judged.advice,
        warnings=(*data.warnings, *trained.warnings, *judged.warnings),
    )
