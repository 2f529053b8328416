"""``edgeq deploy``: the whole flow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeq.cli import words
from edgeq.errors import GateError

if TYPE_CHECKING:
    from edgeq.cli.jobs import Target
    from edgeq.cli.wishes import Wishes
    from edgeq.deploy import Result

NOT_VALID_EXIT = 7


def deploy(
    model: words.Model,
    device: words.DeviceName,
    host: words.Host = None,
    calibration: words.Calibration = None,
    evaluate: words.Evaluate = None,
    format: words.Format = None,  # noqa: A002 - the option's name
    precision: words.Precision = None,
    keep_float: words.KeepFloat = None,
    equalize: words.Equalize = False,
    correct_bias: words.CorrectBias = False,
    search_seconds: words.SearchSeconds = None,
    confidence: words.Confidence = None,
    on_device: words.OnDevice = False,
    max_drop: words.MaxDrop = None,
    min_agreement: words.MinAgreement = None,
    min_sqnr: words.MinSqnr = None,
    budget: words.Budget = None,
    name: words.Name = None,
    release_version: words.Version = None,
    runs: Annotated[int | None, typer.Option(help="At least so many inferences.", min=1)] = None,
    duration: Annotated[
        float | None, typer.Option(help="At least so many seconds of them.", min=0)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Default: the profile's.", min=1)] = None,
    meter: words.Meter = None,
    cool_to: words.CoolTo = None,
    cool_limit: words.CoolLimit = None,
    pin_frequency: words.PinFrequency = None,
    cpus: words.Cpus = None,
    benchmark_model: words.BenchmarkModel = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent and changed; change nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 7 if the verdict is not valid.")
    ] = False,
    trust_model: words.TrustModel = False,
    identity: words.Identity = None,
    fingerprint: words.Fingerprint = None,
    accept_new: words.AcceptNew = False,
    json: words.Json = None,
) -> None:
    """Convert MODEL for a device, prove it, put it there, run it and report."""
    from edgeq.cli import jobs, render
    from edgeq.cli.wishes import Wishes, check_model

    render.check_target(json)
    check_model(model)
    trust = jobs.Trust(fingerprint=fingerprint, accept_new=accept_new)
    target = jobs.target(device, host=host, identity=identity, trust=trust)
    wishes = Wishes(
        calibration=calibration,
        evaluation=evaluate,
        format=format,
        precision=precision,
        keep_float=tuple(keep_float or ()),
        equalize=equalize,
        correct_bias=correct_bias,
        search_seconds=search_seconds,
        confidence=confidence,
        on_device=on_device,
        max_drop=max_drop,
        min_agreement=min_agreement,
        min_sqnr_db=min_sqnr,
        budgets=tuple(budget or ()),
        name=name,
        version=release_version,
        trust=trust_model,
        runs=runs,
        duration_s=duration,
        threads=threads,
        cool_to_c=cool_to,
        cool_limit_s=cool_limit,
        pin_frequency=pin_frequency,
        cpus=cpus,
        meter=meter,
        benchmark_model=benchmark_model,
    )
    if dry_run:
        _rehearse(model, target, wishes, json)
    else:
        _leave(_run(model, target, wishes, json), strict=strict)


def _run(model: Path, target: "Target", wishes: "Wishes", json: str | None) -> "Result":
    from edgeq.cli import render
    from edgeq.cli.progress import Steps
    from edgeq.cli.wishes import deploy_job, tools

    if target.profile.profile.runtime.native:
        from edgeq.native.deploy import deploy
    else:
        from edgeq.deploy import deploy

    job = deploy_job(model, target, wishes)
    with Steps() as steps:
        result = deploy(
            job, tools(target, f"deploys {job.prepare.labels.name}", wishes.meter), steps.line
        )
    render.result(result, json)
    return result


def _rehearse(model: Path, target: "Target", wishes: "Wishes", json: str | None) -> None:
    from edgeq.cli import rehearsal
    from edgeq.cli.progress import Steps
    from edgeq.cli.wishes import deploy_job, tools

    if target.profile.profile.runtime.native:
        from edgeq.native.rehearse import rehearse
    else:
        from edgeq.rehearse import rehearse

    job = deploy_job(model, target, wishes)
    with Steps() as steps:
        found = rehearse(job, tools(target, "rehearses"), steps.line)
    rehearsal.show(found, json)
    if found.failures:
        raise GateError(f"a gate failed: {'; '.join(found.failures)}")


def _leave(result: "Result", *, strict: bool) -> None:
    if result.failure:
        raise result.failure
    status = result.report.verdict.status
    if strict and status != "valid":
        typer.echo(f"edgeq: the verdict is {status}, and --strict was given", err=True)
        raise typer.Exit(NOT_VALID_EXIT)
