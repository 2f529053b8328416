"""From a model file to the artifact for one profile.

Every step is cached by the content of all that it depends on, so a second run of the same job
starts no worker and imports neither TensorFlow nor the quantizer.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

from edgeq import cache, environments, processor, registry, sources, steps, worker
from edgeq.cache import Cache
from edgeq.core import calibration, quality
from edgeq.core.model import Artifact, FloatModel
from edgeq.core.profile import Format, Precision, Profile
from edgeq.core.project import Project
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.places import Places
from edgeq.ports import Dataset, LoadOptions, OnProgress, Recipe
from edgeq.sources import Data

_LIMITS = worker.Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertJob:
    """What the user asked for.

    Attributes:
        model: File, or SavedModel folder.
        project: ``edgeq.toml`` beside the model; see ``sources.read_project``.
        calibration: Data given on the command line; None: what the project says.
        evaluation: Likewise.
        format: None: the profile's.
        precision: Likewise.
        keep_float: Tensors that ``mixed`` leaves in float32; empty: the profile's.
        equalize: Cross-layer equalization first.
        correct_bias: Bias correction afterwards.
        trust: Code that the model carries may run in the worker.
    """

    model: Path
    profile: Profile
    project: Project
    calibration: Path | None = None
    evaluation: Path | None = None
    format: Format | None = None
    precision: Precision | None = None
    keep_float: tuple[str, ...] = ()
    equalize: bool = False
    correct_bias: bool = False
    trust: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What is quantized, and the data for it; see ``Converted``."""

    pivot: FloatModel
    calibration: Samples | None
    spare: Samples | None
    evaluation: Samples | None
    warnings: tuple[str, ...]
    load_cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The artifact and what it was made from.

    Attributes:
        calibration: The samples that calibrate; None without data.
        spare: The rest of the calibration data; None when nothing is left.
        evaluation: All of it; None without data.
        warnings: Plain sentences, for the report.
        load_cached: The pivot was made by an earlier run.
        quantize_cached: The artifact was.
    """

    pivot: FloatModel
    artifact: Artifact
    calibration: Samples | None
    spare: Samples | None
    evaluation: Samples | None
    warnings: tuple[str, ...]
    load_cached: bool
    quantize_cached: bool
    load_s: float
    quantize_s: float


def convert(job: ConvertJob, *, places: Places, on_progress: OnProgress) -> Converted:
    """Load, calibrate, quantize.

    Raises:
        ModelError: the model cannot be used, or its pivot gives other answers.
        DataError: the calibration or evaluation data cannot be used.
        GateError: LiteRT cannot run what the quantizer made.
        WorkerError: a worker crashed or went beyond its limits.
    """
    started = time.monotonic()
    gathered = gather(job, places=places, on_progress=on_progress)
    loaded = time.monotonic()
    artifact, cached = quantize(gathered, recipe(job), places=places, on_progress=on_progress)
    if not (gathered.load_cached and cached):
        Cache(places.cache).prune()
    seconds = (loaded - started, time.monotonic() - loaded)
    return converted(gathered, artifact, seconds, quantize_cached=cached)


def converted(
    gathered: Gathered,
    artifact: Artifact,
    seconds: tuple[float, float],
    *,
    quantize_cached: bool = False,
) -> Converted:
    """An artifact with all that it was made from; ``seconds``: of loading and of quantizing."""
    load_s, quantize_s = seconds
    return Converted(
        pivot=gathered.pivot,
        artifact=artifact,
        calibration=gathered.calibration,
        spare=gathered.spare,
        evaluation=gathered.evaluation,
        warnings=(*gathered.warnings, *artifact.warnings),
        load_cached=gathered.load_cached,
        quantize_cached=quantize_cached,
        load_s=load_s,
        quantize_s=quantize_s,
    )


def load_pivot(job: ConvertJob, *, places: Places, on_progress: OnProgress) -> FloatModel:
    """Only the float model, as ``convert`` would have it; raises as that does."""
    given = _data(job.calibration, job.model, job.project.calibration.path)
    labelled = _data(job.evaluation, job.model, job.project.evaluation.path)
    return _load(job, given or labelled, places, on_progress)[0]


def gather(job: ConvertJob, *, places: Places, on_progress: OnProgress) -> Gathered:
    """The pivot and the samples; raises as ``convert`` does."""
    on_progress("read", 0, 0)
    given = _data(job.calibration, job.model, job.project.calibration.path)
    labelled = _data(job.evaluation, job.model, job.project.evaluation.path)
    pivot, load_cached = _load(job, given or labelled, places, on_progress)
    all_given = _samples(given, pivot, job.project, places)
    evaluation = _samples(labelled, pivot, job.project, places)
    count = job.project.calibration.samples
    chosen, spare = calibration.choose(all_given, count) if all_given else (None, None)
    classes = quality.classes_of(pivot.outputs, pivot.inputs)
    notes = calibration.audit(all_given, evaluation, job.project.input, count, classes)
    return Gathered(
        pivot=pivot,
        calibration=chosen,
        spare=spare,
        evaluation=evaluation,
        warnings=(*pivot.warnings, *notes),
        load_cached=load_cached,
    )


def recipe(job: ConvertJob) -> Recipe:
    """How the job wants it quantized."""
    conversion = job.profile.conversion
    precision = job.precision or conversion.precision
    return Recipe(
        precision=precision,
        input_dtype=conversion.input_dtype,
        output_dtype=conversion.output_dtype,
        keep_float=job.keep_float or conversion.keep_float,
        equalize=job.equalize,
        correct_bias=job.correct_bias,
        activations=_activations(job.profile),
        symmetric="TensorRT" in job.profile.runtime.providers,
        reduce_range=job.profile.access.transport == "local" and processor.overflows(),
        opset_max=conversion.opset_max,
        ir_max=conversion.ir_max,
    )


def quantize(
    gathered: Gathered,
    recipe: Recipe,
    *,
    places: Places,
    on_progress: OnProgress,
    limits: worker.Limits = _LIMITS,
) -> tuple[Artifact, bool]:
    """The artifact, and whether an earlier run made it.

    Raises:
        ModelError, GateError, DataError: the pivot cannot be quantized so, or not run.
        WorkerError: the worker crashed or went beyond its limits.
    """
    pivot, chosen = gathered.pivot, gathered.calibration
    parts = {
        **cache.versions(),
        "pivot": pivot.sha256,
        "recipe": asdict(recipe),
        "calibration": chosen.sha256 if chosen else None,
    }

    def make(folder: Path) -> None:
        on_progress("quantize", 0, 0)
        if chosen:
            stored.write(chosen, folder)
        request = steps.QuantizeRequest(
            pivot=pivot, recipe=recipe, calibration=folder if chosen else None, folder=folder
        )
        log = places.log / f"quantize-{pivot.sha256[:12]}.log"
        artifact = worker.call(
            steps.quantize, request, log=log, limits=limits, on_progress=on_progress
        )
        if chosen:
            stored.remove(folder)
        cache.write(artifact, folder)

    entry = Cache(places.cache).entry("artifact", parts, make)
    artifact = cache.read(Artifact, entry.folder)
    return replace(artifact, path=entry.folder / artifact.path.name), entry.cached


def samples(data: Data, pivot: FloatModel, project: Project, places: Places) -> Samples:
    """All samples of some data, as the pivot's inputs.

    Raises:
        DataError: they cannot be used.
    """
    return cast("Samples", _samples(data, pivot, project, places))


def _data(given: Path | None, model: Path, in_project: str | None) -> Data | None:
    if given is None and in_project is not None:
        given = model.absolute().parent / in_project
    return None if given is None else sources.identify_data(given)


def _load(
    job: ConvertJob, data: Data | None, places: Places, on_progress: OnProgress
) -> tuple[FloatModel, bool]:
    model = sources.identify_model(job.model)
    settings = job.project.input
    log = places.log / f"load-{model.source.sha256[:12]}.log"
    options = LoadOptions(
        target=job.format or job.profile.conversion.format,
        trust=job.trust,
        image_size=settings.size,
        shapes=settings.shapes,
        data_shapes=sources.sample_shapes(data, settings) if data and model.shapeless else {},
        log=log,
    )
    needed = model.environments(options.target)
    parts = {
        **cache.versions(),
        "source": model.source.sha256,
        "kind": model.source.kind,
        "target": options.target,
        "trust": options.trust,
        "data": data.sha256 if data else None,
        "settings": settings.model_dump(mode="json"),
        "environments": {name: environments.fingerprint(name) for name in needed},
    }

    def make(folder: Path) -> None:
        pythons = {name: environments.ensure(name, places, on_progress) for name in needed}
        on_progress("load", 0, 0)
        request = steps.LoadRequest(
            source=model.source,
            loader=model.loader,
            folder=folder,
            options=replace(options, pythons=pythons),
            settings=settings,
            data=data.path.absolute() if data else None,
            reader=data.reader if data else None,
        )
        pivot = worker.call(steps.load, request, log=log, on_progress=on_progress)
        cache.write(pivot, folder)

    entry = Cache(places.cache).entry("pivot", parts, make)
    pivot = cache.read(FloatModel, entry.folder)
    pivot = replace(pivot, path=entry.folder / pivot.path.name, source=model.source)
    return pivot, entry.cached


def _samples(
    data: Data | None, pivot: FloatModel, project: Project, places: Places
) -> Samples | None:
    if data is None:
        return None
    settings = project.input
    parts = {
        **cache.versions(),
        "data": data.sha256,
        "reader": data.reader,
        "settings": settings.model_dump(mode="json"),
        "inputs": [[spec.name, spec.shape, spec.dtype] for spec in pivot.inputs],
    }

    def make(folder: Path) -> None:
        reader = cast("Dataset", registry.find("datasets", data.reader))
        samples = reader.read(data.path, pivot.inputs, settings)
        calibration.refuse_unusable(samples, pivot.inputs)
        stored.write(replace(samples, sha256=data.sha256), folder)

    entry = Cache(places.cache).entry("samples", parts, make)
    samples = stored.read(entry.folder, str(data.path))
    return replace(samples, sha256=entry.folder.name)


def _activations(profile: Profile) -> Literal["int8", "uint8"]:
    """TensorRT takes signed ones only."""
    wished = profile.conversion.activations
    if wished != "auto":
        return wished
    return "int8" if "TensorRT" in profile.runtime.providers else "uint8"
