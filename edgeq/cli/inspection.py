"""What ``edgeq inspect`` does and shows."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from edgeq import places
from edgeq.cli import jobs, render, wording
from edgeq.cli.progress import Steps
from edgeq.core import kernels
from edgeq.core.inspection import (
    AgainstSection,
    Inspection,
    LayerError,
    QuantizationEntry,
    Shape,
    TensorEntry,
    dump,
)
from edgeq.core.profile import Format
from edgeq.errors import UsageError
from edgeq.inspection import inspector
from edgeq.inspection.inspector import InspectJob

if TYPE_CHECKING:
    from rich.console import Console

_NAME_WIDTH = 48
_LEAST_NAME = 12
_EXPLAINED = 5
_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Options as typed; None: not given."""

    model: Path
    device: str | None
    against: Path | None
    data: Path | None
    samples: int
    format: str | None
    trust: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``top``: rows of each table; None: all. ``full``: names are not shortened."""

    top: int | None
    full: bool


def run(wish: Wish, look: Look, json: str | None) -> None:
    """Inspect and show."""
    if wish.data is not None and wish.against is None:
        raise UsageError("--data goes with --against", hint="add --against FLOAT, the float model")
    job = InspectJob(
        model=wish.model,
        format=_format(wish.format),
        profile=jobs.kind(wish.device) if wish.device else None,
        against=wish.against,
        data=wish.data,
        samples=wish.samples,
        trust=wish.trust,
    )
    with Steps() as steps:
        found = inspector.inspect(
            job, places=places.find(os.environ), on_progress=steps.line("model")
        )
    render.for_machines(dump(found), json)
    if json != "-":
        show(found, look, render.console())


def show(found: Inspection, look: Look, out: "Console") -> None:
    """Print it for people."""
    _fields(found)
    edges = [_edge(entry) for entry in (*found.inputs, *found.outputs)]
    everything = replace(look, top=None)
    _table(out, "inputs and outputs", _EDGES, edges, everything)
    _table(out, "operators", _KINDS, list(_kinds(found)), everything)
    if found.against is None:
        _table(out, "layers", _LAYERS, list(_layers(found)), look)
        _table(out, "quantized tensors", _TENSORS, list(_tensors(found)), look)
    else:
        _against(out, found.against, look)
    for label, notes in (("not known", _unknown(found)), ("notes", found.notes)):
        if notes:
            out.print()
            render.fields((label if i == 0 else "", note) for i, note in enumerate(notes))


def _format(word: str | None) -> Format | None:
    known = get_args(Format)
    if word is not None and word not in known:
        raise UsageError(f"--format {word!r} is not known", hint=f"known: {', '.join(known)}")
    return cast("Format | None", word)


def _fields(found: Inspection) -> None:
    model, peak = found.model, found.activations
    what = f"{model.kind}, looked into as float .{model.format}" if model.pivot else model.kind
    at = "before the first operator"
    if peak.operator is not None:
        at = f"at operator {peak.operator}, {found.operators[peak.operator].kind}"
    weights = ", ".join(
        f"{w.dtype} {w.size_bytes:,} bytes ({w.tensors} tensors)" for w in found.weights
    )
    render.fields(
        (
            ("model", f"{model.source}: {what}, {model.size_bytes:,} bytes"),
            ("parameters", _count(found.parameters)),
            ("MACs", _count(found.macs.total)),
            ("activations", f"{_count(peak.peak_bytes)} bytes at the peak, {at}"
             if peak.peak_bytes is not None else None),
            ("constants", weights or "none"),
            *(("open axes", ", ".join(found.open_axes)) for _ in found.open_axes[:1]),
            *_float(found),
            *_runtime(found),
        )
    )  # fmt: skip


def _float(found: Inspection) -> Iterator[tuple[str, str]]:
    """Of a quantized model: what it still computes in float."""
    if found.float_operators:
        kinds = [found.operators[number].kind for number in found.float_operators]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        yield "in float", f"{len(kinds)} of {len(found.operators)} operators: {', '.join(counts)}"


def _runtime(found: Inspection) -> Iterator[tuple[str, str]]:
    if (section := found.runtime) is None:
        return
    name, width = kernels.name(section.runtime), kernels.bits(section.precision)
    label = section.profile
    if width is None:
        yield label, f"{name}; {section.precision} keeps activations in float"
    elif section.lacking:
        yield label, f"{name} has no int{width} kernel for {', '.join(section.lacking)}"
    else:
        yield label, f"{name} has int{width} kernels for all operators"
    if section.extensions:
        yield "", f"not part of the format: {', '.join(section.extensions)}"


def _unknown(found: Inspection) -> list[str]:
    return [f"{field}: {reason}" for field, reason in found.unavailable.items()]


# Column heads; the first letter says left, right, or the name that takes what is left.
_EDGES = ("", "*name", "shape", "type", "scale", "zero")
_KINDS = ("*operator", ">count", ">MACs", ">share", "computes in")
_LAYERS = (">#", "operator", "*output", "shape", "type", ">MACs")
_TENSORS = ("*tensor", "shape", "type", "scale", ">zero")
_ERRORS = (">#", "operator", "*tensor", ">SQNR", ">own", ">weights", ">clipped")


def _edge(entry: TensorEntry) -> list[str]:
    return [entry.role, entry.name, _shape(entry.shape), entry.dtype, *_scale(entry.quantization)]


def _kinds(found: Inspection) -> Iterator[list[str]]:
    total = found.macs.counted
    for kind in found.kinds:
        share = ""
        if kind.macs and total:
            share = f"{100 * kind.macs / total:.1f} %"
        computes = ", ".join(
            name if len(kind.computes) == 1 else f"{count} {name}"
            for name, count in kind.computes.items()
        )
        yield [kind.kind, str(kind.count), _count(kind.macs), share, computes or "put together"]


def _layers(found: Inspection) -> Iterator[list[str]]:
    for op in found.operators:
        yield [
            str(op.number), op.kind, op.output, _shape(op.shape), op.dtype, _count(op.macs),
        ]  # fmt: skip


def _tensors(found: Inspection) -> Iterator[list[str]]:
    """Those that move first, the parameters after them."""
    for entry in sorted(found.tensors, key=lambda entry: entry.role == "parameter"):
        if entry.quantization:
            yield [entry.name, _shape(entry.shape), entry.dtype, *_scale(entry.quantization)]


def _against(out: "Console", against: AgainstSection, look: Look) -> None:
    samples = f"{against.samples} samples of {against.data}"
    title = f"error against {against.source}, {samples}, worst first (SQNR in dB)"
    _table(out, title, _ERRORS, [_error(layer) for layer in against.layers], look)
    explained = sorted((layer for layer in against.layers if layer.reasons), key=_added)
    if explained:
        out.print()
        out.print("what adds the most error", style="bold")
        render.fields(_explained(explained[:_EXPLAINED], look))
    if against.unmatched:
        out.print()
        render.fields(
            (f"{len(against.unmatched)} unmatched" if i == 0 else "", name)
            for i, name in enumerate(against.unmatched[: look.top])
        )


def _error(layer: LayerError) -> list[str]:
    clipped = layer.clipped_share
    return [
        "" if layer.number < 0 else str(layer.number),
        layer.operator,
        layer.float_tensor,
        _decibels(layer.sqnr_db, layer.max_abs_error),
        _decibels(layer.own_sqnr_db, layer.own_max_abs_error),
        _decibels(layer.weight_sqnr_db, None),
        "" if not clipped else f"{100 * clipped:.2g} %",
    ]


def _added(layer: LayerError) -> float:
    """The error that the operator itself adds, as far as that is known."""
    if layer.own_max_abs_error is not None:
        return math.inf if layer.own_sqnr_db is None else layer.own_sqnr_db
    return math.inf if layer.sqnr_db is None else layer.sqnr_db


def _explained(layers: Sequence[LayerError], look: Look) -> Iterator[tuple[str, str]]:
    for layer in layers:
        label = f"{layer.number} {layer.operator}" if layer.number >= 0 else layer.operator
        for index, reason in enumerate(layer.reasons):
            yield label if index == 0 else "", reason
        name = layer.float_tensor
        for advice in layer.advice:
            short = advice if look.full else advice.replace(name, shortened(name, _NAME_WIDTH))
            yield "", f"try: {short}"


def _decibels(value: float | None, largest_error: float | None) -> str:
    if value is not None:
        return f"{value:.1f}"
    return "equal" if largest_error == 0 else ""


def _scale(found: QuantizationEntry | None) -> list[str]:
    if found is None:
        return ["", ""]
    if found.granularity == "run-time" or found.scale_min is None:
        return ["at run time", ""]
    low, high = found.zero_point_min, found.zero_point_max
    zero = str(low) if low == high else f"{low} to {high}"
    if found.granularity == "tensor":
        return [f"{found.scale_min:.4g}", zero]
    return [f"{found.scales} by {found.granularity}", zero]


def _shape(shape: Shape) -> str:
    if shape is None:
        return wording.UNKNOWN
    return "x".join("?" if side is None else str(side) for side in shape) or "scalar"


def _count(number: int | None) -> str:
    return wording.UNKNOWN if number is None else f"{number:,}"


def _table(
    out: "Console", title: str, head: Sequence[str], rows: list[list[str]], look: Look
) -> None:
    """Columns as wide as what stands in them; the one marked ``*`` takes the rest of the line."""
    if not rows:
        return
    names = [name.lstrip("*>") for name in head]
    shown = [names, *([render.printable(cell) for cell in row] for row in rows[: look.top])]
    widths = [max(len(row[i]) for row in shown) for i in range(len(head))]
    flexible = next(i for i, name in enumerate(head) if name.startswith("*"))
    if not look.full:
        others = sum(width + len(_GAP) for i, width in enumerate(widths) if i != flexible)
        room = max(_LEAST_NAME, min(_NAME_WIDTH, out.width - others))
        widths[flexible] = min(widths[flexible], room)
    out.print()
    out.print(title, style="bold")
    for row in shown:
        cells = (
            text.rjust(width) if name.startswith(">") else text.ljust(width)
            for name, width, text in zip(head, widths, map(shortened, row, widths), strict=True)
        )
        line = _GAP.join(cells).rstrip()
        out.print(line, no_wrap=True, crop=False, style="dim" if row is names else "")
    if len(rows) > len(shown) - 1:
        out.print(f"… {len(rows) - len(shown) + 1} more: --top 0, or --json FILE", style="dim")


def shortened(name: str, width: int) -> str:
    """The end of a name says most; of names that a converter joined, the first is the last op."""
    if len(name) <= width:
        return name
    first = name.split(";", 1)[0]
    if len(first) < width:
        return f"{first}…"
    return f"…{first[len(first) - width + 1 :]}"
