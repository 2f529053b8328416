"""``edgeq evaluate``: what the float model and the artifact answer on the user's data."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from edgeq import registry, sources, worker
from edgeq.core import corruptions, gates, quality
from edgeq.core.assessment import Assessment, corruption_sections
from edgeq.core.corruptions import Corruption
from edgeq.core.evaluation import (
    CorruptionSection,
    DataSection,
    Evaluation,
    FloatSection,
    MetricSection,
    NotApplied,
    QuantizedSection,
)
from edgeq.core.gates import Limits
from edgeq.core.report import Gate, QualitySection
from edgeq.errors import DataError
from edgeq.evaluation import passes, steps, subjects
from edgeq.evaluation.passes import Machines, Pass
from edgeq.evaluation.spool import Spool
from edgeq.evaluation.steps import FindRequest, ScoreRequest
from edgeq.evaluation.subjects import Pair, SubjectsJob
from edgeq.places import Places
from edgeq.ports import Chunk, DataFacts, Dataset, OnProgress
from edgeq.sources import Data

Connect = Callable[[Pair], contextlib.AbstractContextManager[Machines]]
"""Gives the machines that the models run on, once it is known which models these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateJob:
    """What the user asked for.

    Attributes:
        metrics: The user's own: names of entry points, or ``package.module:function``.
        corrupt: Under corruptions too.
        limits: Those that were named make a gate.
    """

    subjects: SubjectsJob
    limits: Limits
    metrics: tuple[str, ...] = ()
    corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The passes over the data, and the corruptions that are none, with the reasons."""

    passes: tuple[Pass, ...]
    not_applied: tuple[NotApplied, ...]


def evaluate(
    job: EvaluateJob, connect: Connect, places: Places, on_progress: OnProgress
) -> Evaluation:
    """Answer every sample with each model, and reckon; memory does not grow with the data.

    Raises:
        ModelError, BundleError: a model cannot be used.
        DataError: the data cannot be used, or does not fit.
        UsageError: a metric cannot be found.
        WorkerError: a metric or a loader failed.
    """
    on_progress("read", 0, 0)
    data = sources.identify_data(job.subjects.data)
    reader = cast("Dataset", registry.find("datasets", data.reader))
    with subjects.resolve(job.subjects, places, on_progress) as pair:
        facts = reader.describe(data.path, pair.inputs, pair.settings)
        plan = _plan(job, pair, facts)
        chunks = reader.chunks(data.path, pair.inputs, pair.settings, passes.chunk_samples(pair))
        _refuse_unknown(job, places, on_progress)
        with _spool(job, facts) as spool, connect(pair) as machines:
            _run(chunks, pair, machines, plan, facts, spool, on_progress)
            metrics = _metrics(job, spool, places, on_progress) if spool else ()
        return _evaluation(job, pair, machines, data, facts, plan, metrics)


def _plan(job: EvaluateJob, pair: Pair, facts: DataFacts) -> _Plan:
    names = [spec.name for spec in pair.leader.outputs]
    made: tuple[Corruption, ...] = ()
    left_out: dict[str, str] = {}
    if job.corrupt and facts.picture:
        made = corruptions.for_pixels(*facts.picture)
        left_out = {"gain": "the samples are pictures: contrast and brightness stand for it"}
    elif job.corrupt and any(np.dtype(spec.dtype).kind != "f" for spec in pair.inputs):
        left_out = dict.fromkeys(corruptions.NAMES, "the model takes whole numbers, no pictures")
    elif job.corrupt:
        made = corruptions.for_features()
        why = "the samples are arrays of numbers, not pictures (a folder of images, or uint8)"
        left_out = dict.fromkeys(("blur", "brightness", "contrast", "jpeg"), why)
    return _Plan(
        passes=tuple(
            Pass(corruption=corruption, found=Assessment(pair.inputs, names))
            for corruption in (None, *made)
        ),
        not_applied=tuple(NotApplied(name=name, reason=why) for name, why in left_out.items()),
    )


def _refuse_unknown(job: EvaluateJob, places: Places, on_progress: OnProgress) -> None:
    """Metrics that cannot be found are told before the work, not after it."""
    if job.metrics:
        request = FindRequest(metrics=job.metrics)
        worker.call(steps.find, request, log=_log(places), on_progress=on_progress)


@contextlib.contextmanager
def _spool(job: EvaluateJob, facts: DataFacts) -> Iterator[Spool | None]:
    if not job.metrics:
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="edgeq-outputs-") as folder,
        Spool(Path(folder), facts.samples) as spool,
    ):
        yield spool


def _run(
    chunks: Iterator[Chunk],
    pair: Pair,
    machines: Machines,
    plan: _Plan,
    facts: DataFacts,
    spool: Spool | None,
    on_progress: OnProgress,
) -> None:
    total, done = facts.samples * len(plan.passes), 0
    words = f"evaluate {facts.samples} samples"
    if len(plan.passes) > 1:
        words += f", {len(plan.passes)} times"

    def count(samples: int) -> None:
        nonlocal done
        done += samples
        on_progress(words, done, total)

    on_progress(words, 0, total)
    passes.run(chunks, pair, machines, plan.passes, spool, count)
    if plan.passes[0].found.samples != facts.samples:
        raise DataError("the data changed while it was read", hint="start again")


def _metrics(
    job: EvaluateJob, spool: Spool, places: Places, on_progress: OnProgress
) -> tuple[MetricSection, ...]:
    spool.close()
    request = ScoreRequest(
        metrics=job.metrics,
        float_outputs=spool.outputs("float"),
        artifact_outputs=spool.outputs("artifact"),
        labels=spool.labels,
    )
    found = worker.call(steps.score, request, log=_log(places), on_progress=on_progress)
    return tuple(
        MetricSection(
            name=score.name, float_value=score.float_value, artifact_value=score.artifact_value
        )
        for score in found.scores
    )


def _log(places: Places) -> Path:
    return places.log / "metrics.log"


def _no_numbers(metrics: Sequence[MetricSection], pair: Pair) -> Iterator[tuple[str, str]]:
    for metric in metrics:
        lacks_float = pair.float_model is not None and metric.float_value is None
        lacks_artifact = pair.artifact is not None and metric.artifact_value is None
        if lacks_float or lacks_artifact:
            yield metric.name, "the metric gave a number that is not finite"


def _evaluation(
    job: EvaluateJob,
    pair: Pair,
    machines: Machines,
    data: Data,
    facts: DataFacts,
    plan: _Plan,
    metrics: tuple[MetricSection, ...],
) -> Evaluation:
    clean = plan.passes[0].found
    names = facts.label_names or pair.label_names
    classes = None if clean.problem else clean.scores.classes
    under = [(p.corruption, p.found, p.turns) for p in plan.passes[1:] if p.corruption]
    found = corruption_sections(clean, under)
    return Evaluation(
        float_model=_float_section(pair, machines),
        artifact=_artifact_section(pair, machines),
        data=DataSection(
            name=data.path.name,
            sha256=data.sha256,
            samples=facts.samples,
            labelled=facts.labelled,
            classes=classes,
            class_names=names,
        ),
        scores=None if clean.problem else clean.scores.kind,
        float_scores=clean.float_scores(),
        artifact_scores=clean.artifact_scores(),
        classes=clean.classes(names),
        comparison=clean.comparison(),
        metrics=metrics,
        corruptions=found,
        not_applied=plan.not_applied,
        gates=_gates(job, clean),
        warnings=(*pair.warnings, *facts.warnings, *_warnings(clean, facts, classes, found)),
        unavailable=dict((*clean.unavailable(), *_no_numbers(metrics, pair))),
    )


def _float_section(pair: Pair, machines: Machines) -> FloatSection | None:
    if (one := pair.float_model) is None:
        return None
    return FloatSection(
        name=one.name,
        source=one.source,
        sha256=one.sha256,
        size_bytes=one.size_bytes,
        ran_on=machines.float_on,
    )


def _artifact_section(pair: Pair, machines: Machines) -> QuantizedSection | None:
    if (one := pair.artifact) is None:
        return None
    return QuantizedSection(
        name=one.name,
        format=one.source,
        sha256=one.sha256,
        size_bytes=one.size_bytes,
        ran_on=machines.artifact_on,
    )


def _gates(job: EvaluateJob, clean: Assessment) -> tuple[Gate, ...]:
    found = clean.comparison()
    section = QualitySection(
        samples=clean.samples,
        sqnr_db=found.sqnr_db if found else None,
        top1_agreement=found.agreement if found else None,
        accuracy_drop=found.accuracy_drop if found else None,
    )
    asked = gates.asked_gates(section, job.limits)
    # equal answers have no noise, which is better than any limit
    return tuple(gate for gate in asked if not (clean.equal and gate.name == "sqnr_db"))


def _warnings(
    clean: Assessment,
    facts: DataFacts,
    classes: int | None,
    under: Sequence[CorruptionSection],
) -> Iterator[str]:
    scores = clean.float_scores() or clean.artifact_scores()
    if scores and classes and quality.is_guess(scores.top1_accuracy, facts.samples, classes):
        yield (
            f"the model itself is right on only {scores.top1_accuracy:.0%} of {facts.samples} "
            "samples: is the preprocessing in edgeq.toml right, and the order of the classes?"
        )
    if facts.label_names and classes and len(facts.label_names) != classes:
        yield (
            f"the data has {len(facts.label_names)} class folders, the model {classes} classes: "
            "class numbers follow the sorted names of the folders, so labels may be shifted"
        )
    yield from _fragile(under)


def _fragile(under: Sequence[CorruptionSection]) -> Iterator[str]:
    """Accuracy that the artifact loses only where the data is not clean."""
    fallen = [section for section in under if section.significant]
    if fallen:
        worst = max(fallen, key=lambda section: section.extra_drop or 0.0)
        shown = ", ".join(f"{section.name} {section.severity}" for section in fallen)
        yield (
            "robustness fell silently: quantization costs more accuracy than on clean data under "
            f"{shown}; most under {worst.name} {worst.severity}, "
            f"{100 * (worst.extra_drop or 0.0):.1f} points more"
        )
