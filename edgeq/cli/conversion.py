"""What ``edgeq convert`` does and shows."""

import os
from pathlib import Path

from edgeq import places
from edgeq.cli import render, searched, wording
from edgeq.cli.progress import Steps
from edgeq.cli.wishes import BUNDLE_SUFFIX, Wishes, prepare_job
from edgeq.core import bundle as bundles
from edgeq.core import gates
from edgeq.core.bundle import Bundle
from edgeq.core.profile import Budgets, NamedProfile
from edgeq.core.telemetry import BYTES_PER_MIB
from edgeq.errors import GateError, HostError, UsageError
from edgeq.package import ProvedBundle
from edgeq.prepare import PrepareJob, prepare
from edgeq.stopwatch import Stopwatch


def run(
    model: Path, profile: NamedProfile, wishes: Wishes, output: Path | None, json: str | None
) -> None:
    """Convert, write the file, say what it is.

    Raises:
        GateError: the artifact is not good enough; nothing was written.
    """
    job = prepare_job(model, profile, wishes)
    target = output or Path(f"{job.labels.name}.{_format(job)}")
    if target.suffix not in (BUNDLE_SUFFIX, f".{_format(job)}"):
        raise UsageError(f"--output {target}: a file ends in .{_format(job)} or {BUNDLE_SUFFIX}")
    if target.exists() and model.exists() and target.samefile(model):
        raise UsageError(
            f"{target} is the model itself, and would be overwritten", hint="name another: -o FILE"
        )
    _refuse_place(target)
    with Steps() as steps:
        proved = prepare(job, places.find(os.environ), Stopwatch(), steps.line("model"))
    sized = Budgets(artifact_mib=job.budgets.artifact_mib)
    found = (*proved.gates, *gates.budget_gates(sized, artifact_mib=_mib(proved)))
    failures = gates.failures(found)
    _show(proved, None if failures else target, json)
    if failures:
        if proved.search and proved.search.nearest:
            raise GateError(
                f"no recipe holds the budget, {target} was not written; the nearest is"
                f" {proved.search.nearest}: {'; '.join(failures)}",
                hint="another limit, better calibration data, or training for int8: edgeq qat",
            )
        raise GateError(
            f"a gate failed, {target} was not written: {'; '.join(failures)}",
            hint="better calibration data, another --precision, or another limit",
        )
    is_bundle = target.suffix == BUNDLE_SUFFIX
    data = (
        bundles.pack(proved.bundle)
        if is_bundle
        else proved.bundle.files[proved.bundle.manifest.model_file]
    )
    render.save(target, data)


def _refuse_place(target: Path) -> None:
    """Before minutes of work: the file can be written there."""
    if target.is_dir():
        raise UsageError(f"--output {target} is a folder", hint=f"-o {target / 'model.tflite'}")
    if not target.parent.is_dir():
        raise HostError(f"there is no folder {target.parent}", hint=f"mkdir -p {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise HostError(f"cannot write into {target.parent}", hint="name another place: -o FILE")


def _format(job: PrepareJob) -> str:
    source = job.source
    if isinstance(source, Bundle):
        return source.manifest.format
    return source.format or source.profile.conversion.format


def _mib(proved: ProvedBundle) -> float:
    return proved.artifact.size_bytes / BYTES_PER_MIB


def _show(proved: ProvedBundle, written: Path | None, json: str | None) -> None:
    text = proved.bundle.manifest_bytes.decode()
    render.for_machines(text, json)
    if json == "-":
        return
    if search := proved.search:
        searched.show(search)
    artifact, quality = proved.artifact, proved.quality
    size = (
        f"{artifact.size_bytes:,} bytes, {wording.number(artifact.compression_ratio)} times smaller"
    )
    render.fields(
        (
            *((("file", str(written)),) if written else ()),
            ("artifact", f"{artifact.format} {artifact.precision}, {size}"),
            ("SQNR", wording.number(quality.sqnr_db, "dB")),
            ("agreement", wording.number(quality.top1_agreement)),
            ("accuracy", wording.accuracies(quality.float_accuracy, quality.artifact_accuracy)),
            *(("warning", warning) for warning in proved.warnings),
        )
    )
