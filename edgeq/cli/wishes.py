"""What the options of ``deploy`` and ``convert`` ask for, as jobs."""

import getpass
import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

from edgeq import places, registry, sources
from edgeq.cli import conditions
from edgeq.cli.jobs import Target
from edgeq.convert import ConvertJob
from edgeq.core import bundle as bundles
from edgeq.core import gates, report
from edgeq.core.bundle import Bundle
from edgeq.core.gates import Limits
from edgeq.core.profile import Format, NamedProfile, Precision
from edgeq.deploy import DeployJob, Tools
from edgeq.errors import BundleError, ModelError, UsageError
from edgeq.package import Labels
from edgeq.ports import PowerMeter
from edgeq.prepare import PrepareJob
from edgeq.search.trials import DEFAULT_CONFIDENCE, DEFAULT_SECONDS, SearchWish
from edgeq.stores import sqlite

BUNDLE_SUFFIX = ".edgeq"
AUTO = "auto"
_NAME_CHARACTERS = 64
_OF_FILES = frozenset({"csv", "spl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Options as typed; None: not given."""

    calibration: Path | None = None
    evaluation: Path | None = None
    format: str | None = None
    precision: str | None = None
    keep_float: tuple[str, ...] = ()
    equalize: bool = False
    correct_bias: bool = False
    search_seconds: float | None = None
    confidence: float | None = None
    on_device: bool = False
    max_drop: float | None = None
    min_agreement: float | None = None
    min_sqnr_db: float | None = None
    budgets: tuple[str, ...] = ()
    name: str | None = None
    version: int | None = None
    trust: bool = False
    runs: int | None = None
    duration_s: float | None = None
    threads: int | None = None
    cool_to_c: float | None = None
    cool_limit_s: float | None = None
    pin_frequency: str | None = None
    cpus: str | None = None
    meter: str | None = None
    benchmark_model: str | None = None


def check_model(model: Path) -> None:
    """Before a device is asked: there is a model.

    Raises:
        ModelError: there is none.
    """
    if not model.is_file() and not model.is_dir():
        what = "is no file or folder" if model.exists() else "does not exist"
        raise ModelError(
            f"{model} {what}",
            hint="name a .h5, .keras, .tflite, .onnx, .pt2, .pt or .edgeq file, or a SavedModel"
            " folder",
        )


def prepare_job(model: Path, profile: NamedProfile, wishes: Wishes) -> PrepareJob:
    """What the host has to prepare.

    Raises:
        UsageError: options that are wrong or do not go together.
        BundleError: ``model`` is a bundle, and damaged.
    """
    limits = Limits(
        max_drop=wishes.max_drop,
        min_agreement=wishes.min_agreement,
        min_sqnr_db=wishes.min_sqnr_db,
    )
    if model.suffix == BUNDLE_SUFFIX:
        bundle = _read_bundle(model, wishes)
        manifest = bundle.manifest
        labels = Labels(name=manifest.name, version=manifest.version, profile=profile.name)
        budgets = gates.parse_budgets(wishes.budgets, manifest.budgets)
        return PrepareJob(source=bundle, labels=labels, budgets=budgets, limits=limits)
    return PrepareJob(
        source=ConvertJob(
            model=model,
            profile=profile.profile,
            project=sources.read_project(model),
            calibration=wishes.calibration,
            evaluation=wishes.evaluation,
            format=_format(wishes.format),
            precision=_precision(wishes.precision),
            keep_float=wishes.keep_float,
            equalize=wishes.equalize,
            correct_bias=wishes.correct_bias,
            trust=wishes.trust,
        ),
        labels=Labels(
            name=_release_name(wishes.name, model),
            version=wishes.version or 1,
            profile=profile.name,
        ),
        budgets=gates.parse_budgets(wishes.budgets, profile.profile.budgets),
        limits=limits,
        search=_search(wishes, profile, limits),
    )


def deploy_job(model: Path, target: Target, wishes: Wishes) -> DeployJob:
    """The whole; raises as ``prepare_job`` does."""
    protocol = target.profile.profile.run
    changes: dict[str, object] = {
        "runs": wishes.runs,
        "seconds": wishes.duration_s,
        "cpus": None if wishes.cpus is None else conditions.cpus(wishes.cpus),
    }
    wished = {key: value for key, value in changes.items() if value is not None}
    return DeployJob(
        prepare=prepare_job(model, target.profile, wishes),
        device=target.device,
        profile=target.profile,
        protocol=protocol.model_copy(update=wished),
        threads=wishes.threads,
        conditions=conditions.of(wishes.cool_to_c, wishes.cool_limit_s, wishes.pin_frequency),
        benchmark_model=wishes.benchmark_model,
    )


def tools(target: Target, what: str, meter: str | None = None) -> Tools:
    """The adapters of this user and machine; ``what`` is for others who find the device busy.

    Raises:
        UsageError: there is no such kind of meter.
        MeterError: its file or its package is not there.
    """
    where = places.find(os.environ)
    now = datetime.now(UTC)
    return Tools(
        transport=target.transport,
        store=sqlite.make(where.data / sqlite.FILE_NAME),
        places=where,
        profiles=registry.profiles(),
        holder=f"{_user()}@{socket.gethostname()} {what}",
        run_id=report.run_id(now, secrets.token_bytes(2)),
        created=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        meter=None if meter is None else _meter(meter),
    )


def _meter(wish: str) -> PowerMeter:
    """``KIND`` or ``KIND:ARGUMENT``."""
    kind, _, argument = wish.partition(":")
    if kind in _OF_FILES and not argument:
        raise UsageError(f"--meter {kind} needs a file", hint=f"--meter {kind}:FILE")
    return cast("PowerMeter", registry.find("meters", kind, argument))


def _read_bundle(path: Path, wishes: Wishes) -> Bundle:
    changed = [
        wishes.format,
        wishes.calibration,
        wishes.evaluation,
        wishes.precision,
        wishes.name,
        wishes.version,
        wishes.search_seconds,
        wishes.confidence,
        wishes.on_device or None,
    ]
    flags = (wishes.trust, wishes.keep_float, wishes.equalize, wishes.correct_bias)
    if any(wish is not None for wish in changed) or any(flags):
        raise UsageError(
            f"{path} is a bundle, which is deployed as it is",
            hint="leave out --format, --calibration, --evaluate, --precision, --name,"
            " --release-version, --trust-model and all about recipes, or name the model instead",
        )
    try:
        if path.stat().st_size > bundles.MAX_BYTES:
            raise BundleError(f"{path} is too large for a bundle")
        return bundles.unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _format(word: str | None) -> Format | None:
    known = get_args(Format)
    if word is not None and word not in known:
        raise UsageError(f"--format {word!r} is not known", hint=f"known: {', '.join(known)}")
    return cast("Format | None", word)


def _precision(word: str | None) -> Precision | None:
    known = get_args(Precision)
    if word == AUTO:
        return None
    if word is not None and word not in known:
        raise UsageError(
            f"--precision {word!r} is not known", hint=f"known: {', '.join((AUTO, *known))}"
        )
    return cast("Precision | None", word)


def _search(wishes: Wishes, profile: NamedProfile, limits: Limits) -> SearchWish | None:
    """The search that ``--precision auto`` asks for.

    Raises:
        UsageError: options that do not go together.
    """
    recipe_words = {
        "--keep-float": bool(wishes.keep_float),
        "--equalize": wishes.equalize,
        "--correct-bias": wishes.correct_bias,
    }
    search_words = {
        "--search-seconds": wishes.search_seconds is not None,
        "--confidence": wishes.confidence is not None,
        "--on-device": wishes.on_device,
    }
    if wishes.precision != AUTO:
        if given := [word for word, is_given in search_words.items() if is_given]:
            raise UsageError(f"{given[0]} goes with --precision auto")
        precision = wishes.precision or profile.profile.conversion.precision
        if wishes.keep_float and precision != "mixed":
            raise UsageError(f"--keep-float goes with --precision mixed, not {precision}")
        return None
    if given := [word for word, is_given in recipe_words.items() if is_given]:
        raise UsageError(
            f"{given[0]} does not go with --precision auto, which tries that itself",
            hint="leave it out, or name a --precision",
        )
    return SearchWish(
        limits=limits,
        confidence=DEFAULT_CONFIDENCE if wishes.confidence is None else wishes.confidence,
        seconds=DEFAULT_SECONDS if wishes.search_seconds is None else wishes.search_seconds,
        thorough=wishes.on_device,
    )


def _release_name(given: str | None, model: Path) -> str:
    """The name given, which must be right; else one made from the file's."""
    if given is not None:
        if not bundles.is_release_name(given):
            raise UsageError(
                f"--name {given!r} cannot be a release's name",
                hint="letters, digits, '.', '_' and '-', at most 64, not beginning with '.' or '-'",
            )
        return given
    stem = model.absolute().stem if not model.is_dir() else model.absolute().name
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in stem)
    return safe.lstrip(".-")[:_NAME_CHARACTERS] or "model"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
