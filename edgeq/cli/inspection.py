"""What ``edgeq inspect`` does and shows."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from edgeq import places
from edgeq.cli import inspect_tables, jobs, render, wording
from edgeq.cli.inspect_tables import Look
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

_EXPLAINED = 5


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
        show(found, look, inspect_tables.console())


def show(found: Inspection, look: Look, out: "Console") -> None:
    """Print it for people."""
    inspect_tables.fields(out, _figures(found))
    edges = [_edge(entry) for entry in (*found.inputs, *found.outputs)]
    everything = replace(look, top=None)
    inspect_tables.table(out, "inputs and outputs", _EDGES, edges, everything)
    inspect_tables.table(out, "operators", _KINDS, list(_kinds(found)), everything)
    if found.against is None:
        inspect_tables.table(out, "layers", _LAYERS, list(_layers(found)), look)
        inspect_tables.table(out, "quantized tensors", _TENSORS, list(_tensors(found)), look)
    else:
        _against(out, found.against, look)
    for label, notes in (("not known", _unknown(found)), ("notes", found.notes)):
        if notes:
            out.print()
            labels = [label, *[""] * (len(notes) - 1)]
            inspect_tables.fields(out, zip(labels, notes, strict=True))


def _format(word: str | None) -> Format | None:
    known = get_args(Format)
    if word is not None and word not in known:
        raise UsageError(f"--format {word!r} is not known", hint=f"known: {', '.join(known)}")
    return cast("Format | None", word)


def _figures(found: Inspection) -> Iterator[tuple[str, str | None]]:
    model, peak = found.model, found.activations
    what = f"{model.kind}, looked into as float .{model.format}" if model.pivot else model.kind
    at = "before the first operator"
    if peak.operator is not None:
        at = f"at operator {peak.operator}, {found.operators[peak.operator].kind}"
    weights = ", ".join(
        f"{w.dtype} {w.size_bytes:,} bytes ({w.tensors} tensors)" for w in found.weights
    )
    size = None if peak.peak_bytes is None else f"{peak.peak_bytes:,} bytes at the peak, {at}"
    yield "model", f"{model.source}: {what}, {model.size_bytes:,} bytes"
    yield "parameters", _count(found.parameters)
    yield "MACs", _count(found.macs.total)
    yield "activations", size
    yield "constants", weights or "none"
    if found.open_axes:
        yield "open axes", ", ".join(found.open_axes)
    yield from _float(found)
    yield from _runtime(found)


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
    inspect_tables.table(out, title, _ERRORS, [_error(layer) for layer in against.layers], look)
    explained = sorted((layer for layer in against.layers if layer.reasons), key=_added)
    if explained:
        out.print()
        out.print("what adds the most error", style="bold")
        _explain(out, explained[:_EXPLAINED])
    if against.unmatched:
        out.print()
        inspect_tables.fields(
            out,
            (
                (f"{len(against.unmatched)} unmatched" if i == 0 else "", name)
                for i, name in enumerate(against.unmatched[: look.top])
            ),
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


def _explain(out: "Console", layers: Sequence[LayerError]) -> None:
    """The reasons of each, and the first thing to try: whole, so that it can be pasted."""
    labels = [f"{one.number} {one.operator}" if one.number >= 0 else one.operator for one in layers]
    width = max(map(len, labels))
    for label, layer in zip(labels, layers, strict=True):
        starts = [label.ljust(width), *[""] * (len(layer.reasons) - 1)]
        inspect_tables.fields(out, zip(starts, layer.reasons, strict=True))
        for advice in layer.advice[:1]:
            out.print(render.printable(f"{'':{width}}  try: {advice}"), soft_wrap=True)


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
