"""What runs in a worker process: reading a file, which may be hostile, and running it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeq.core import fusion
from edgeq.core.graph import Graph
from edgeq.core.inspection import Inspection, ModelSection
from edgeq.core.macs import Shape
from edgeq.core.profile import Format
from edgeq.datasets import stored
from edgeq.errors import ModelError
from edgeq.inspection import facts, layers, onnx, tflite
from edgeq.inspection.facts import Wanted
from edgeq.inspection.judging import Pair
from edgeq.ports import OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRequest:
    """``path``: the file; ``model``: what is said of it."""

    path: Path
    model: ModelSection
    wanted: Wanted | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """``plain``: the pivot of the float model ``source``; ``samples``: a folder of ``stored``."""

    look: LookRequest
    plain: Path
    source: str
    samples: Path
    data: str


def look(request: LookRequest, on_progress: OnProgress) -> Inspection:
    """Read a .tflite or .onnx file and reckon its figures.

    Raises:
        ModelError: it is damaged.
    """
    on_progress("read", 0, 0)
    graph = reader(request.model.format)(request.path)
    return facts.inspection(request.model, graph, request.wanted)


def compare(request: CompareRequest, on_progress: OnProgress) -> Inspection:
    """The same, and the error of each layer against the float model.

    Raises:
        ModelError: it is damaged, or a runtime cannot run one of the two.
    """
    look_request = request.look
    on_progress("read", 0, 0)
    read = reader(look_request.model.format)
    raw = read(look_request.path)
    numbers = {
        part: number
        for number, op in enumerate(facts.as_computed(raw, look_request.wanted).ops)
        for part in op.parts
    }
    pair = Pair(
        format=look_request.model.format,
        artifact=look_request.path,
        raw=raw,
        computed=fusion.fused(raw, all_kinds=True),
        numbers=numbers,
        plain_path=request.plain,
        plain=read(request.plain),
    )
    _refuse_other_inputs(pair, request.source)
    samples = stored.read(request.samples, request.data)
    against = layers.compare(pair, samples, request.source, request.data, on_progress)
    found = facts.inspection(look_request.model, raw, look_request.wanted)
    return found.model_copy(update={"against": against})


def _refuse_other_inputs(pair: Pair, source: str) -> None:
    ours, theirs = (
        [graph.tensors[number].shape for number in graph.inputs] for graph in (pair.raw, pair.plain)
    )
    if ours != theirs:
        raise ModelError(
            f"{source} takes inputs of {_shapes(theirs)}, the model inspected {_shapes(ours)}",
            hint="name the float model that it was made from",
        )


def _shapes(shapes: list[Shape]) -> str:
    return ", ".join(
        "x".join("?" if s is None else str(s) for s in shape or ()) for shape in shapes
    )


def reader(format_: Format) -> Callable[[Path], Graph]:
    """What reads files of a format."""
    match format_:
        case "tflite":
            return tflite.read
        case "onnx":
            return onnx.read
