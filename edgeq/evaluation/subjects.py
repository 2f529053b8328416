"""The models of an evaluation: which is which, and how their tensors belong together."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from pydantic import ValidationError

from edgeq import convert, digest, worker
from edgeq.convert import ConvertJob
from edgeq.core import bundle as bundles
from edgeq.core.bundle import Bundle
from edgeq.core.profile import Format, Profile
from edgeq.core.project import Input, Project
from edgeq.errors import BundleError, ModelError, UsageError
from edgeq.evaluation import steps
from edgeq.evaluation.steps import Examined, ExamineRequest
from edgeq.places import Places
from edgeq.ports import Array, OnProgress, TensorSpecs

BUNDLE_SUFFIX = ".edgeq"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectsJob:
    """What to evaluate.

    Attributes:
        model: Any source; or a quantized file or a bundle, which is evaluated as it is.
        artifact: A .tflite, .onnx or bundle to hold against it.
        data: Real inputs, which the float model is compared on with its source.
        project: ``edgeq.toml`` beside the model.
        format: Of the float model when there is no artifact; None: the profile's.
        trust: Code that the model carries may run in the worker.
    """

    model: Path
    artifact: Path | None
    data: Path
    project: Project
    profile: Profile
    format: Format | None
    trust: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model file that answers. ``source``: what it was made from, else its format."""

    path: Path
    name: str
    source: str
    sha256: str
    size_bytes: int
    inputs: TensorSpecs
    outputs: TensorSpecs

    def feed(self, samples: Sequence[Array], order: Sequence[int]) -> list[Array]:
        """The inputs in this model's order; float32 where it quantizes them itself."""
        return [
            samples[place].astype("float32" if spec.scale is not None else spec.dtype, copy=False)
            for place, spec in zip(order, self.inputs, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One or both.

    Attributes:
        input_order: For each of the artifact's inputs, the place of the float model's.
        output_order: For each of the float model's outputs, the place of the artifact's.
        settings: How data becomes input.
        label_names: From the bundle; empty when it has none.
    """

    float_model: Subject | None
    artifact: Subject | None
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]
    settings: Input
    label_names: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def leader(self) -> Subject:
        """The one whose inputs the data is read for: the float model where there is one."""
        return cast("Subject", self.float_model or self.artifact)

    @property
    def inputs(self) -> TensorSpecs:
        """As data is read for them: real numbers where the model quantizes them itself."""
        return tuple(
            replace(spec, dtype="float32", scale=None, zero_point=None) if spec.scale else spec
            for spec in self.leader.inputs
        )


@contextlib.contextmanager
def resolve(job: SubjectsJob, places: Places, on_progress: OnProgress) -> Iterator[Pair]:
    """Load what is to be evaluated; a bundle's model lies in a temporary folder meanwhile.

    Raises:
        ModelError, BundleError: one of them cannot be used, or they do not belong together.
        UsageError: the arguments do not go together.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-evaluate-") as folder:
        opener = _Opener(job, places, on_progress, Path(folder))
        yield opener.pair()


class _Opener:
    def __init__(
        self, job: SubjectsJob, places: Places, on_progress: OnProgress, folder: Path
    ) -> None:
        self._job = job
        self._places = places
        self._on_progress = on_progress
        self._folder = folder

    def pair(self) -> Pair:
        job = self._job
        if job.artifact is None and job.model.suffix == BUNDLE_SUFFIX:
            return self._alone(job.model)
        if job.artifact is None and (found := self._quantized(job.model)):
            return _pair(None, found, job.project.input)
        if job.model.suffix == BUNDLE_SUFFIX:
            raise UsageError(
                f"{job.model} is a bundle, which comes second",
                hint=f"edgeq evaluate MODEL {job.model} --data …",
            )
        if job.artifact is None:
            return _pair(self._float(job.format), None, job.project.input)
        bundle = _read_bundle(job.artifact) if job.artifact.suffix == BUNDLE_SUFFIX else None
        artifact = self._packed(bundle) if bundle else self._file(job.artifact)
        pivot = self._float(_format(artifact.path))
        pair = _pair(pivot, artifact, job.project.input)
        return _as_packed(pair, bundle) if bundle else pair

    def _alone(self, path: Path) -> Pair:
        bundle = _read_bundle(path)
        pair = _pair(None, self._packed(bundle), _settings(bundle))
        return replace(pair, label_names=_label_names(bundle))

    def _quantized(self, path: Path) -> Subject | None:
        """The file as it is, when it is quantized already."""
        if path.suffix.removeprefix(".") not in get_args(Format) or not path.is_file():
            return None
        subject, examined = self._examined(path)
        return subject if examined.quantized else None

    def _float(self, format_: Format | None) -> Subject:
        job = self._job
        wanted = ConvertJob(
            model=job.model,
            profile=job.profile,
            project=job.project,
            evaluation=job.data,
            format=format_,
            trust=job.trust,
        )
        pivot = convert.load_pivot(wanted, places=self._places, on_progress=self._on_progress)
        return Subject(
            path=pivot.path,
            name=pivot.source.name,
            source=pivot.source.kind,
            sha256=pivot.source.sha256,
            size_bytes=pivot.source.size_bytes,
            inputs=pivot.inputs,
            outputs=pivot.outputs,
        )

    def _packed(self, bundle: Bundle) -> Subject:
        path = self._folder / bundle.manifest.model_file
        path.write_bytes(bundle.files[bundle.manifest.model_file])
        return replace(self._file(path), name=bundle.manifest.name)

    def _file(self, path: Path) -> Subject:
        _format(path)
        return self._examined(path)[0]

    def _examined(self, path: Path) -> tuple[Subject, Examined]:
        if not path.is_file():
            raise ModelError(f"there is no file {path}")
        try:
            sha256, size_bytes = digest.of_file(path), path.stat().st_size
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        request = ExamineRequest(path=path.absolute(), format=_format(path), folder=self._folder)
        log = self._places.log / f"examine-{sha256[:12]}.log"
        found = worker.call(steps.examine, request, log=log, on_progress=self._on_progress)
        subject = Subject(
            path=found.runs,
            name=path.stem,
            source=request.format,
            sha256=sha256,
            size_bytes=size_bytes,
            inputs=found.inputs,
            outputs=found.outputs,
        )
        return subject, found


def _format(path: Path) -> Format:
    suffix = path.suffix.removeprefix(".")
    if suffix not in get_args(Format):
        raise ModelError(
            f"{path} is no artifact", hint="an artifact ends in .tflite, .onnx or .edgeq"
        )
    return cast("Format", suffix)


def _pair(float_model: Subject | None, artifact: Subject | None, settings: Input) -> Pair:
    inputs = range(len(artifact.inputs)) if artifact else range(0)
    outputs = range(len(artifact.outputs)) if artifact else range(0)
    input_order, output_order = tuple(inputs), tuple(outputs)
    if float_model and artifact:
        input_order = _order("inputs", float_model.inputs, artifact.inputs)
        output_order = _order("outputs", artifact.outputs, float_model.outputs)
    return Pair(
        float_model=float_model,
        artifact=artifact,
        input_order=input_order,
        output_order=output_order,
        settings=settings,
        label_names=(),
        warnings=(),
    )


def _order(what: str, given: TensorSpecs, wanted: TensorSpecs) -> tuple[int, ...]:
    """For each wanted tensor the place of the given one: by name, else by position.

    Raises:
        ModelError: they are not as many, or of other shapes.
    """
    names = [spec.name for spec in given]
    order = tuple(range(len(wanted)))
    if sorted(names) == sorted(spec.name for spec in wanted):
        order = tuple(names.index(spec.name) for spec in wanted)
    fits = len(given) == len(wanted) and all(
        given[place].shape[1:] == spec.shape[1:] for place, spec in zip(order, wanted, strict=True)
    )
    if not fits:
        shown = " and ".join(
            ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
            for specs in (given, wanted)
        )
        raise ModelError(
            f"the {what} of the model and of the artifact differ: {shown}",
            hint="was the artifact made from this model?",
        )
    return order


def _read_bundle(path: Path) -> Bundle:
    try:
        if path.stat().st_size > bundles.MAX_BYTES:
            raise BundleError(f"{path} is too large for a bundle")
        return bundles.unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _as_packed(pair: Pair, bundle: Bundle) -> Pair:
    warnings: tuple[str, ...] = ()
    if _settings(bundle) != pair.settings:
        warnings = (
            "the bundle was made with another [input] than edgeq.toml beside the model has; "
            "edgeq.toml is used",
        )
    return replace(pair, label_names=_label_names(bundle), warnings=warnings)


def _settings(bundle: Bundle) -> Input:
    try:
        return Input.model_validate_json(bundle.files[bundles.PREPROCESSING])
    except ValidationError as error:
        raise BundleError(f"the bundle's {bundles.PREPROCESSING} cannot be read") from error


def _label_names(bundle: Bundle) -> tuple[str, ...]:
    text = bundle.files.get(bundles.LABELS, b"").decode(errors="replace")
    return tuple(text.splitlines())
