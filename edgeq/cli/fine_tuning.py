"""What ``edgeq qat`` does and shows."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgeq import places, sources, training
from edgeq.cli import jobs, render, wording
from edgeq.cli.progress import Steps
from edgeq.core import qat
from edgeq.core.qat import QatReport, Row
from edgeq.errors import HostError, UsageError
from edgeq.ports import OnProgress
from edgeq.training import TrainJob

_ROW_WORDS = {
    "float": "float",
    "ptq": "int8, PTQ",
    "ptq-cle": "int8, PTQ + CLE",
    "qat-float": "float after QAT",
    "qat": "int8, QAT",
}
_EPOCH = re.compile(r"epoch (?P<number>\d+) of (?P<epochs>\d+)(?P<end>: .+)?")
_HEAD = ("model", "accuracy", "agreement", "SQNR", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Options as typed; None: not given."""

    model: Path
    training: Path
    evaluation: Path | None
    device: str
    output: Path | None
    epochs: int
    learning_rate: float | None
    batch: int | None
    seed: int


def run(wish: Wish, json: str | None) -> None:
    """Train, write the model, show the comparison.

    Raises:
        UsageError: the file to write has another name than such a model's.
    """
    target = _target(wish)
    job = TrainJob(
        model=wish.model,
        profile=jobs.kind(wish.device),
        project=sources.read_project(wish.model),
        training=wish.training,
        evaluation=wish.evaluation,
        suffix=target.suffix,
        epochs=wish.epochs,
        learning_rate=wish.learning_rate or training.LEARNING_RATE,
        batch=wish.batch or training.BATCH,
        seed=wish.seed,
    )
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with Steps() as steps:
        where = places.find(os.environ)
        result = training.train(job, created=created, places=where, on_progress=_progress(steps))
    render.save(target, result.model)
    render.for_machines(qat.dump(result.report), json)
    if json != "-":
        _show(result.report, target)


def _target(wish: Wish) -> Path:
    """Where the trained model goes; checked before hours of training."""
    endings = training.suffixes(wish.model)
    target = wish.output or Path(f"{wish.model.stem}-qat{endings[0]}")
    if target.suffix not in endings:
        raise UsageError(f"--output {target}: such a model's file ends in {' or '.join(endings)}")
    if target.exists() and target.samefile(wish.model):
        raise UsageError(
            f"{target} is the model itself, and would be overwritten", hint="name another: -o FILE"
        )
    if not target.parent.is_dir():
        raise HostError(f"there is no folder {target.parent}", hint=f"mkdir -p {target.parent}")
    if not os.access(target.absolute().parent, os.W_OK | os.X_OK):
        raise HostError(f"cannot write into {target.absolute().parent}")
    return target


def _progress(steps: Steps) -> OnProgress:
    """All epochs as one bar, and a line for each that has ended."""
    line = steps.line("model")

    def report(phase: str, done: int, total: int) -> None:
        epoch = _EPOCH.fullmatch(phase)
        if epoch is None:
            line(phase, done, total)
        elif epoch["end"]:
            steps.note(f"model: {phase}")
        else:
            number, epochs = int(epoch["number"]), int(epoch["epochs"])
            line("train", (number - 1) * total + done, epochs * total)

    return report


def _show(report: QatReport, target: Path) -> None:
    render.table(_HEAD, [_cells(row) for row in report.rows], "")
    render.say("")
    own = wording.number(report.own_sqnr_db, "dB")
    render.fields(
        (
            ("file", str(target)),
            ("trained", _trained(report)),
            ("measured", _measured(report)),
            ("rounding", f"SQNR {own} between the trained model's int8 and its own float"),
            ("take", report.advice),
            *(("left out", text) for text in _left_out(report)),
            *(("warning", warning) for warning in report.warnings),
        )
    )


def _trained(report: QatReport) -> str:
    taught = report.training
    best = taught.epochs[taught.best_epoch]
    after = f", after {taught.resumed_at} epochs of an earlier run" if taught.resumed_at else ""
    accuracy = best.validation_accuracy
    how_well = f"loss {best.validation_loss:.4g}"
    if accuracy is not None:
        how_well = f"accuracy {accuracy:.4f}, {how_well}"
    return (
        f"{len(taught.epochs) - 1} epochs{after} of {taught.samples} samples towards "
        f"{taught.objective}; the best is epoch {taught.best_epoch}: {how_well} on "
        f"{taught.kept_back} samples kept back"
    )


def _measured(report: QatReport) -> str:
    labels = "" if report.evaluation.labelled else ", without labels"
    return f"{report.evaluation.samples} samples of {report.evaluation.origin}{labels}"


def _left_out(report: QatReport) -> Iterator[str]:
    for row in report.rows:
        if "all" in row.unavailable:
            yield f"{_ROW_WORDS[row.name]}: {row.unavailable['all']}"


def _cells(row: Row) -> tuple[str | None, ...]:
    return (
        _ROW_WORDS[row.name],
        None if row.accuracy is None else f"{row.accuracy:.4f}",
        None if row.agreement is None else f"{row.agreement:.4f}",
        None if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB",
        None if row.size_bytes is None else f"{row.size_bytes:,}",
    )
