"""``edgeq inspect`` without its terminal: from what the user names to an ``Inspection``."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeq import convert, digest, sources, worker
from edgeq.convert import ConvertJob
from edgeq.core import bundle as bundles
from edgeq.core import calibration
from edgeq.core.inspection import Inspection, ModelSection
from edgeq.core.model import FloatModel
from edgeq.core.profile import Format, NamedProfile, Profile
from edgeq.core.project import Project
from edgeq.core.samples import spread
from edgeq.datasets import stored
from edgeq.errors import BundleError, ModelError, UsageError
from edgeq.inspection import work
from edgeq.inspection.facts import Wanted
from edgeq.places import Places
from edgeq.ports import OnProgress
from edgeq.worker import Limits

BUNDLE_SUFFIX = ".edgeq"
_LIMITS = Limits(memory_mib=8192, timeout_s=600.0)
_TFLITE_MAGIC = slice(4, 8), b"TFL3"
_SUFFIXES: dict[str, Format] = {".tflite": "tflite", ".lite": "tflite", ".onnx": "onnx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectJob:
    """What the user asked for.

    Attributes:
        model: Any model that edgeq knows, or a bundle.
        format: Of the pivot; None: the file's own, or the profile's.
        profile: Whose runtime the operators are compared with.
        against: The float model; None: no errors of layers.
        data: Inputs for both; None: what the ``edgeq.toml`` beside ``against`` names.
        samples: At most so many, spread evenly.
        trust: Code that the model carries may run in the worker.
    """

    model: Path
    format: Format | None = None
    profile: NamedProfile | None = None
    against: Path | None = None
    data: Path | None = None
    samples: int = 100
    trust: bool = False


def inspect(job: InspectJob, *, places: Places, on_progress: OnProgress) -> Inspection:
    """Read the model, or its pivot, and reckon its figures.

    Raises:
        ModelError: it is damaged, or no loader takes it.
        BundleError: it is a damaged bundle.
        WorkerError: the worker crashed or went beyond its limits.
    """
    with _file(job, places, on_progress) as model:
        request = work.LookRequest(
            path=model.path, model=model.section, wanted=_wanted(job, model.section.format)
        )
        log = places.log / f"inspect-{model.section.sha256[:12]}.log"
        if job.against is None:
            return worker.call(work.look, request, log=log, limits=_LIMITS, on_progress=on_progress)
        with _comparison(job, job.against, request, places, on_progress) as both:
            return worker.call(work.compare, both, log=log, limits=_LIMITS, on_progress=on_progress)


@contextlib.contextmanager
def _comparison(
    job: InspectJob,
    plain: Path,
    request: work.LookRequest,
    places: Places,
    on_progress: OnProgress,
) -> Iterator[work.CompareRequest]:
    """With the float model's pivot and the samples in a folder."""
    project = sources.read_project(plain)
    data = sources.identify_data(_data(job, plain, project))
    pivot = float_model(plain, job, places, on_progress, request.model.format)
    all_samples = convert.samples(data, pivot, project, places)
    chosen = calibration.take(all_samples, spread(all_samples.count, job.samples))
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        stored.write(chosen, Path(folder))
        yield work.CompareRequest(
            look=request,
            plain=pivot.path,
            source=str(plain),
            samples=Path(folder),
            data=str(data.path),
        )


def _data(job: InspectJob, plain: Path, project: Project) -> Path:
    named = project.evaluation.path or project.calibration.path
    if job.data is not None:
        return job.data
    if named is None:
        raise UsageError(
            "--against needs inputs to run both models with",
            hint="add --data PATH: a folder of images, .npy or .npz",
        )
    return plain.absolute().parent / named


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    section: ModelSection


@contextlib.contextmanager
def _file(job: InspectJob, places: Places, on_progress: OnProgress) -> Iterator[_File]:
    """The .tflite or .onnx file to look into: the user's, a bundle's, or the pivot."""
    if job.model.suffix == BUNDLE_SUFFIX:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            yield _from_bundle(job.model, Path(folder))
        return
    own = _own_format(job.model)
    if own is not None and job.format in (None, own):
        yield _described(job.model, job.model, own, own, pivot=False)
        return
    pivot = float_model(job.model, job, places, on_progress)
    yield _described(pivot.path, job.model, pivot.source.kind, pivot.format, pivot=True)


def float_model(
    model: Path,
    job: InspectJob,
    places: Places,
    on_progress: OnProgress,
    target: Format | None = None,
) -> FloatModel:
    """A float model as its pivot.

    Raises:
        ModelError: no loader takes it, or it is quantized already.
        DataError: the ``edgeq.toml`` beside it names data that cannot be read.
    """
    profile = job.profile.profile if job.profile else Profile(description="inspection")
    wanted = ConvertJob(
        model=model,
        profile=profile,
        project=sources.read_project(model),
        format=target or job.format or _own_format(model) or profile.conversion.format,
        trust=job.trust,
    )
    return convert.load_pivot(wanted, places=places, on_progress=on_progress)


def _from_bundle(path: Path, folder: Path) -> _File:
    try:
        if path.stat().st_size > bundles.MAX_BYTES:
            raise BundleError(f"{path} is too large for a bundle")
        bundle = bundles.unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error
    inside = folder / bundle.manifest.model_file
    inside.write_bytes(bundle.files[bundle.manifest.model_file])
    return _described(inside, path, "bundle", bundle.manifest.format, pivot=False)


def _described(path: Path, source: Path, kind: str, format_: Format, *, pivot: bool) -> _File:
    try:
        section = ModelSection(
            source=str(source),
            kind=kind,
            format=format_,
            size_bytes=path.stat().st_size,
            sha256=digest.of_file(path),
            pivot=pivot,
        )
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    return _File(path=path, section=section)


def _own_format(path: Path) -> Format | None:
    """Of a file that is looked into as it is."""
    if not path.is_file():
        return None
    if found := _SUFFIXES.get(path.suffix.lower()):
        return found
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    place, magic = _TFLITE_MAGIC
    return "tflite" if head[place] == magic else None


def _wanted(job: InspectJob, format_: Format) -> Wanted | None:
    if job.profile is None:
        return None
    profile = job.profile.profile
    kinds = profile.runtime.kinds_for(format_)
    if not kinds:
        raise UsageError(
            f"the profile {job.profile.name} has no runtime for .{format_}",
            hint="name another --device, or --format",
        )
    return Wanted(
        profile=job.profile.name,
        runtime=kinds[0],
        precision=profile.conversion.precision,
        optimization=profile.runtime.graph_optimization if format_ == "onnx" else "all",
    )
