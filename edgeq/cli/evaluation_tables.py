"""An evaluation, for people."""

from collections.abc import Iterator, Sequence

from edgeq.cli import render, wording
from edgeq.core.evaluation import (
    ComparisonSection,
    CorruptionSection,
    Evaluation,
    NotApplied,
    ScoresSection,
)

_MOST_CONFUSION = 20
_MOST_CLASSES = 30
_SHOWN_MISTAKES = 5


def show(found: Evaluation) -> None:
    """Print it: the figures, the classes, the corruptions, the warnings."""
    render.fields(_fields(found))
    if found.classes:
        _classes(found)
    for name, scores in (("float", found.float_scores), ("artifact", found.artifact_scores)):
        if scores:
            _confusion(name, scores, found)
    if found.corruptions:
        _corruptions(found)
    notes = list(_not_applied(found.not_applied))
    notes += [
        (
            "gate",
            f"{'passed' if gate.passed else 'FAILED'}  {gate.name} {wording.number(gate.value)}",
        )
        for gate in found.gates
    ]
    notes += [("warning", warning) for warning in found.warnings]
    if notes:
        render.say("")
        render.fields(notes)


def _not_applied(left_out: Sequence[NotApplied]) -> Iterator[tuple[str, str]]:
    reasons = dict.fromkeys(one.reason for one in left_out)
    for reason in reasons:
        names = ", ".join(one.name for one in left_out if one.reason == reason)
        yield "not applied", f"{names}: {reason}"


def _fields(found: Evaluation) -> Iterator[tuple[str, str | None]]:
    if one := found.float_model:
        yield "float", f"{one.name}, {one.source}, {one.size_bytes:,} bytes, on {one.ran_on}"
    if other := found.artifact:
        yield (
            "artifact",
            f"{other.name}, {other.format}, {other.size_bytes:,} bytes, on {other.ran_on}",
        )
    labelled = "labelled" if found.data.labelled else "without labels"
    yield "data", f"{found.data.name}, {found.data.samples:,} samples, {labelled}"
    for name, scores in (("float", found.float_scores), ("artifact", found.artifact_scores)):
        if scores:
            yield f"{name} accuracy", _accuracy(scores, found.scores or "")
    if found.comparison:
        yield from _compared(found.comparison)
    for metric in found.metrics:
        values = (("float", metric.float_value), ("artifact", metric.artifact_value))
        shown = ", ".join(f"{n} {wording.number(v, digits=6)}" for n, v in values)
        yield metric.name, shown
    for reason, names in _unknown(found).items():
        yield "not known", f"{', '.join(names)}: {reason}"


def _unknown(found: Evaluation) -> dict[str, list[str]]:
    """Null figures by their reason; that a model was not given, the user knows."""
    missing = {
        "float_scores": found.float_model is None,
        "artifact_scores": found.artifact is None,
        "comparison": found.comparison is None,
    }
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.unavailable.items():
        if not missing.get(name):
            by_reason.setdefault(reason, []).append(name)
    return by_reason


def _accuracy(scores: ScoresSection, kind: str) -> str:
    low, high = scores.top1_ci
    text = f"top-1 {scores.top1_accuracy:.4f} (95 %: {low:.4f} to {high:.4f})"
    if scores.top5_accuracy is not None:
        text += f", top-5 {scores.top5_accuracy:.4f}"
    return f"{text}, ECE {wording.number(scores.ece)} ({kind})"


def _compared(found: ComparisonSection) -> Iterator[tuple[str, str | None]]:
    if found.accuracy_drop is not None and found.drop_ci is not None:
        low, high = found.drop_ci
        yield (
            "accuracy drop",
            f"{100 * found.accuracy_drop:.2f} points (95 %: {100 * low:.2f} to {100 * high:.2f}); "
            f"{found.lost} samples lost, {found.gained} gained",
        )
    if found.agreement is not None and found.agreement_ci is not None:
        low, high = found.agreement_ci
        yield "agreement", f"{found.agreement:.4f} (95 %: {low:.4f} to {high:.4f})"
    for output in found.outputs:
        label = "output" if len(found.outputs) == 1 else f"output {output.name}"
        yield (
            label,
            f"SQNR {wording.number(output.sqnr_db, 'dB')}, cosine "
            f"{wording.number(output.cosine, digits=4)}, largest error "
            f"{wording.number(output.max_abs_error)}",
        )


def _classes(found: Evaluation) -> None:
    """The classes that lose most, when there are too many for a screen."""
    rows = list(found.classes)
    render.say("")
    if len(rows) > _MOST_CLASSES:
        rows.sort(key=lambda one: (one.artifact_accuracy or 0.0) - (one.float_accuracy or 0.0))
        rows = rows[:_MOST_CLASSES]
        render.say(f"the {len(rows)} of {len(found.classes)} classes that lose most")
    head, given = _models(found)
    render.table(
        ("CLASS", "SAMPLES", *head),
        (
            (
                one.name or str(one.label),
                str(one.samples),
                *_of(given, one.float_accuracy, one.artifact_accuracy),
            )
            for one in rows
        ),
        "no classes",
    )


def _models(found: Evaluation) -> tuple[tuple[str, ...], tuple[bool, bool]]:
    """Headings of the models that were given, and which these are."""
    given = found.float_model is not None, found.artifact is not None
    names = zip(("FLOAT", "ARTIFACT"), given, strict=True)
    return tuple(name for name, there in names if there), given


def _of(given: tuple[bool, bool], *values: float | None) -> Iterator[str | None]:
    """Shares of the models that were given."""
    for value, there in zip(values, given, strict=True):
        if there:
            yield _share(value)


def _confusion(name: str, scores: ScoresSection, found: Evaluation) -> None:
    """The matrix where it fits a screen, else the most frequent mistakes."""
    names = found.data.class_names
    render.say("")
    if scores.confusion is not None and len(scores.confusion) <= _MOST_CONFUSION:
        render.say(f"confusion, {name}: rows are labels, columns answers")
        head = ["", *(str(place) for place in range(len(scores.confusion)))]
        rows = (
            [f"{place} {_class(place, names)}".rstrip(), *map(str, row)]
            for place, row in enumerate(scores.confusion)
        )
        render.table(head, rows, "no samples")
        return
    mistakes = "; ".join(
        f"{_class(one.label, names) or one.label} taken for "
        f"{_class(one.answer, names) or one.answer}: {one.samples}"
        for one in scores.mistakes[:_SHOWN_MISTAKES]
    )
    render.say(f"most frequent mistakes, {name}: {mistakes or 'none'}")


def _class(place: int, names: Sequence[str]) -> str:
    return names[place] if place < len(names) else ""


def _corruptions(found: Evaluation) -> None:
    head, given = _models(found)
    labelled = found.float_scores is not None or found.artifact_scores is not None
    columns = ["CORRUPTION", "STRENGTH", "PARAMETER"]
    if labelled:
        columns += head
        columns += ["DROP"] if all(given) else []
        columns += [f"{name} ECE" for name in head]
    columns += ["AGREEMENT", "SQNR", ""] if all(given) else []
    render.say("")
    rows = (_corruption(row, given, labelled=labelled) for row in found.corruptions)
    render.table(columns, rows, "no corruptions")


def _corruption(
    row: CorruptionSection, given: tuple[bool, bool], *, labelled: bool
) -> list[str | None]:
    cells: list[str | None] = [row.name, str(row.severity), f"{row.parameter} {row.value:.4g}"]
    if labelled:
        cells += _of(given, row.float_accuracy, row.artifact_accuracy)
        cells += [_share(row.accuracy_drop)] if all(given) else []
        cells += _of(given, row.float_ece, row.artifact_ece)
    if all(given):
        note = "falls more than on clean data" if row.significant else ""
        cells += [_share(row.agreement), wording.number(row.sqnr_db, "dB"), note]
    return cells


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
