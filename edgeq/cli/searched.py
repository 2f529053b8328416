"""What a search found, for people."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from edgeq.cli import render, wording

if TYPE_CHECKING:
    from edgeq.core.searched import CandidateSection, SearchSection

_NOTHING = "-"


def show(found: "SearchSection", stream: TextIO | None = None) -> None:
    """Print the table of candidates, and what the bounds in it mean."""
    columns = [column for column in _columns(found) if any(cell != _NOTHING for cell in column[1:])]
    head = tuple(column[0] for column in columns)
    rows = list(zip(*(column[1:] for column in columns), strict=True))
    render.table(head, rows, "nothing was tried", stream)
    for one in found.candidates:
        render.say(f"{one.name}: {one.reason}", stream)
    render.say(_explained(found), stream)


def _columns(found: "SearchSection") -> Iterator[list[str]]:
    tried = found.candidates
    yield ["recipe", *(one.name for one in tried)]
    yield ["result", *(one.standing for one in tried)]
    yield [
        "bytes",
        *(_NOTHING if one.size_bytes is None else f"{one.size_bytes:,}" for one in tried),
    ]
    yield ["accuracy", *(_share(one.artifact_accuracy) for one in tried)]
    yield ["drop", *map(_drop, tried)]
    yield ["agreement", *(_share(one.top1_agreement) for one in tried)]
    yield ["SQNR", *(_number(one.sqnr_db, "dB") for one in tried)]
    yield ["host p50", *(_number(one.host_p50_ms, "ms") for one in tried)]
    yield from _device_columns(tried)


def _device_columns(tried: "Sequence[CandidateSection]") -> Iterator[list[str]]:
    measured = [one.device for one in tried]
    yield ["device p50", *(_number(d.p50_ms, "ms") if d else _NOTHING for d in measured)]
    yield ["peak RSS", *(_number(d.peak_rss_mib, "MiB") if d else _NOTHING for d in measured)]
    yield ["energy", *(_number(d.energy_mj, "mJ") if d else _NOTHING for d in measured)]


def _drop(one: "CandidateSection") -> str:
    if one.accuracy_drop is None or one.drop_low is None or one.drop_high is None:
        return _NOTHING
    return f"{one.accuracy_drop:.4f} ({one.drop_low:.4f} to {one.drop_high:.4f})"


def _share(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.4f}"


def _number(value: float | None, unit: str) -> str:
    return _NOTHING if value is None else wording.number(value, unit)


def _explained(found: "SearchSection") -> str:
    limits = {
        "drop at most": found.max_drop,
        "agreement at least": found.min_agreement,
        "SQNR in dB at least": found.min_sqnr_db,
    }
    budget = ", ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)
    where = "evaluation" if found.origin == "evaluation" else "calibration"
    float_accuracy = ""
    if found.float_accuracy is not None:
        float_accuracy = f", on which float32 has {found.float_accuracy:.4f}"
    bounds = ""
    if any(one.drop_low is not None for one in found.candidates):
        bounds = (
            f"; each end of a drop's interval is {100 * found.confidence:g} % sure. It is judged by"
            " a stricter bound: gains count up to the losses only, and a later look asks for more"
        )
    return f"budget: {budget or 'none'}; {found.samples} {where} samples{float_accuracy}{bounds}"
