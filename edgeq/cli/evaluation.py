"""What ``edgeq evaluate`` does and shows."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgeq import here, places, sources, there
from edgeq.cli import evaluation_tables, jobs, render
from edgeq.cli.jobs import Target, Trust
from edgeq.cli.progress import Steps
from edgeq.cli.wishes import check_model, tools
from edgeq.core import evaluation, gates
from edgeq.core.gates import Limits
from edgeq.core.profile import Format, Profile
from edgeq.core.project import Project
from edgeq.errors import GateError, UsageError
from edgeq.evaluation.evaluate import Connect, EvaluateJob, evaluate
from edgeq.evaluation.passes import Machines
from edgeq.evaluation.subjects import Pair, SubjectsJob
from edgeq.places import Places
from edgeq.ports import OnProgress
from edgeq.there import Station

HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options as typed; None: not given."""

    model: Path
    artifact: Path | None
    data: Path | None
    corruptions: bool
    metrics: tuple[str, ...]
    device: str | None
    on_device: bool
    host: str | None
    identity: Path | None
    hosts: Trust
    max_drop: float | None
    min_agreement: float | None
    min_sqnr_db: float | None
    trust: bool


def run(asked: Asked, json: str | None) -> None:
    """Evaluate, print, and judge.

    Raises:
        GateError: a limit that was named is not held.
    """
    target = _target(asked)
    job = _job(asked, target)
    where = places.find(os.environ)
    with Steps() as steps:
        on_progress = steps.line("model")
        connect = _connect(target, where, steps.line("device"))
        found = evaluate(job, connect, where, on_progress)
    render.for_machines(evaluation.dump(found), json)
    if json != "-":
        evaluation_tables.show(found)
    if failures := gates.failures(found.gates):
        raise GateError(
            f"a gate failed: {'; '.join(failures)}",
            hint="another --precision, better calibration data, or another limit",
        )


def _target(asked: Asked) -> Target | None:
    """The device to run on; None: this machine."""
    if not asked.on_device:
        if asked.host:
            raise UsageError("--host goes with --on-device")
        return None
    if asked.device is None:
        raise UsageError("--on-device needs --device NAME", hint="edgeq devices list")
    target = jobs.target(asked.device, host=asked.host, identity=asked.identity, trust=asked.hosts)
    if target.profile.profile.runtime.native:
        raise UsageError(
            f"--on-device needs Python there, and {target.device.name} runs benchmark_model",
            hint="leave it out: the artifact is evaluated here",
        )
    return target


def _job(asked: Asked, target: Target | None) -> EvaluateJob:
    check_model(asked.model)
    project = sources.read_project(asked.model)
    profile = target.profile if target else jobs.kind(asked.device or HOST)
    return EvaluateJob(
        subjects=SubjectsJob(
            model=asked.model,
            artifact=asked.artifact,
            data=_data(asked, project),
            project=project,
            profile=profile.profile,
            format=_format(asked, profile.profile),
            trust=asked.trust,
        ),
        limits=Limits(
            max_drop=asked.max_drop,
            min_agreement=asked.min_agreement,
            min_sqnr_db=asked.min_sqnr_db,
        ),
        metrics=asked.metrics or project.evaluation.metrics,
        corrupt=asked.corruptions,
    )


def _data(asked: Asked, project: Project) -> Path:
    if asked.data is not None:
        return asked.data
    if project.evaluation.path is None:
        raise UsageError(
            "there is no data to evaluate on",
            hint="--data PATH, or path under [evaluation] in edgeq.toml beside the model",
        )
    return asked.model.absolute().parent / project.evaluation.path


def _format(asked: Asked, profile: Profile) -> Format:
    """Without a device an .onnx stays what it is: nothing need be converted to run it."""
    if asked.device is None and asked.model.suffix == ".onnx":
        return "onnx"
    return profile.conversion.format


def _connect(target: Target | None, where: Places, on_progress: OnProgress) -> Connect:
    @contextlib.contextmanager
    def connected(pair: Pair) -> Iterator[Machines]:
        with here.lazy_predictor(where) as ours:
            if target is None:
                yield Machines(float_model=ours, float_on=HOST, artifact=ours, artifact_on=HOST)
                return
            tested = pair.artifact or pair.leader
            format_ = cast("Format", tested.path.suffix.removeprefix("."))
            station, name = _station(target), target.device.name
            with there.open_predictor(station, format_, where, on_progress) as theirs:
                alone = pair.artifact is None
                yield Machines(
                    float_model=theirs if alone else ours,
                    float_on=name if alone else HOST,
                    artifact=theirs,
                    artifact_on=name,
                )

    return connected


def _station(target: Target) -> Station:
    known = tools(target, "evaluates")
    return Station(
        device=target.device,
        profile=target.profile,
        transport=known.transport,
        known=known.profiles,
        holder=known.holder,
    )
