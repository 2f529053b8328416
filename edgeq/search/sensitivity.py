"""Which ops' quantization costs most, measured op by op in a worker.

Quantizing a model again costs some 10 ms once it is calibrated, so every op is kept in float32 by
itself once. Each measurement is a line of a journal that is on the disk before the next one
begins: whatever breaks this off, it goes on where it was.
"""

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeq import formats, steps
from edgeq.core.metrics import Distance
from edgeq.core.model import FloatModel
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.errors import ModelError
from edgeq.ports import Batch, Floats, OnProgress, Recipe

_MOST_KEPT = 0.5
"""Of the ops: a model that is float32 for the most part is better off as fp16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityRequest:
    """What to measure.

    Attributes:
        recipe: The int8 one that ops are left out of; its inputs and outputs are float32.
        calibration: A folder that ``stored.write`` filled; ``probe`` likewise, with the samples
            that the error is measured on.
        journal: Measurements, kept from one try to the next.
        seconds: It stops after them.
    """

    pivot: FloatModel
    recipe: Recipe
    calibration: Path
    probe: Path
    journal: Path
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Some ops in float32. ``sqnr_db``: None when the answers equal the float model's."""

    keep_float: tuple[str, ...]
    sqnr_db: float | None
    size_bytes: int

    @property
    def quality(self) -> float:
        return math.inf if self.sqnr_db is None else self.sqnr_db


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What was measured.

    Attributes:
        ops: How many there are.
        whole: No op in float32; None when there was no time.
        single: One op each, as far as measured.
        growing: The most sensitive 1, 2, 4, … together; empty unless every op was measured.
        complete: There was time for everything.
    """

    ops: int
    whole: Step | None
    single: tuple[Step, ...] = ()
    growing: tuple[Step, ...] = ()
    complete: bool


class Requantizer(Protocol):
    """One pivot quantized by many recipes, calibrated once."""

    def quantize(self, recipe: Recipe) -> bytes: ...

    def op_tensors(self) -> tuple[str, ...]:
        """Names that ``keep_float`` takes, one an op."""


def measure(request: SensitivityRequest, on_progress: OnProgress) -> Sensitivity:
    """Measure what keeping ops in float32 gains.

    Raises:
        ModelError: the pivot cannot be quantized, or not run.
    """
    end_s = time.monotonic() + request.seconds
    bench = _Bench(request)
    names = bench.op_tensors()
    whole = bench.step(())
    singles: list[Step] = []
    for number, name in enumerate(names):
        if time.monotonic() > end_s:
            return Sensitivity(ops=len(names), whole=whole, single=tuple(singles), complete=False)
        on_progress("measure ops", number, len(names))
        if step := bench.step((name,)):
            singles.append(step)
    growing = []
    for kept in growing_sets(singles, len(names)):
        if time.monotonic() > end_s:
            break
        if step := bench.step(kept):
            growing.append(step)
    return Sensitivity(
        ops=len(names),
        whole=whole,
        single=tuple(singles),
        growing=tuple(growing),
        complete=time.monotonic() <= end_s,
    )


def growing_sets(singles: Sequence[Step], ops: int) -> list[tuple[str, ...]]:
    """The most sensitive 2, 4, 8, … together, up to half of the ops; and the one alone."""
    ranked = sorted(singles, key=lambda step: -step.quality)
    most = int(ops * _MOST_KEPT)
    sizes = [size for power in range(16) if (size := 1 << power) <= min(most, len(ranked))]
    return [tuple(step.keep_float[0] for step in ranked[:size]) for size in sizes]


class _Bench:
    """Quantizes, runs and compares; what the journal has is not done again."""

    def __init__(self, request: SensitivityRequest) -> None:
        self._request = request
        self._requantizer = _requantizer(request.pivot, stored.read(request.calibration, ""))
        self._feeds = steps.batches(stored.read(request.probe, ""), request.pivot.inputs)
        self._expected: list[list[Floats]] | None = None
        self._known = _read(request.journal)

    def op_tensors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._requantizer.op_tensors()))

    def step(self, kept: tuple[str, ...]) -> Step | None:
        """One measurement; None where the quantizer refuses to keep just these in float32.

        Raises:
            ModelError: it refuses the model as a whole.
        """
        if kept in self._known:
            return self._known[kept]
        recipe = self._request.recipe
        if kept:
            recipe = replace(recipe, precision="mixed", keep_float=kept)
        try:
            content = self._requantizer.quantize(recipe)
            step: Step | None = Step(
                keep_float=kept, sqnr_db=self._sqnr_db(content), size_bytes=len(content)
            )
        except ModelError:
            if not kept:
                raise
            step = None
        self._known = {**self._known, kept: step}
        _append(self._request.journal, kept, step)
        return step

    def _sqnr_db(self, content: bytes) -> float | None:
        pivot = self._request.pivot
        if self._expected is None:
            self._expected = _outputs(pivot.path, self._feeds)
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            path = Path(folder) / f"trial.{pivot.format}"
            path.write_bytes(content)
            found = _outputs(path, self._feeds)
        worst: list[float] = []
        for place in range(len(found[0])):
            distance = Distance()
            for one, other in zip(self._expected, found, strict=True):
                distance.add(one[place], other[place])
            if distance.sqnr_db is not None:
                worst.append(distance.sqnr_db)
        return min(worst, default=None)


def _requantizer(pivot: FloatModel, calibration: Samples) -> Requantizer:
    match pivot.format:
        case "tflite":
            from edgeq.quantizers.tflite_requantizer import Requantizer as Tflite

            return Tflite(pivot, calibration)
        case "onnx":
            return _Onnx(pivot, calibration)


class _Onnx:
    """Without the remarks on each file."""

    def __init__(self, pivot: FloatModel, calibration: Samples) -> None:
        from edgeq.quantizers.onnx_requantizer import Requantizer as Onnx

        self._requantizer = Onnx(pivot, calibration)

    def quantize(self, recipe: Recipe) -> bytes:
        return self._requantizer.quantize(recipe).content

    def op_tensors(self) -> tuple[str, ...]:
        return self._requantizer.op_tensors()


def _outputs(path: Path, feeds: Sequence[Batch]) -> list[list[Floats]]:
    """Of each sample."""
    runner = formats.of(path).runner(path)
    return [[output.astype(np.float32) for output in runner.run(batch)] for batch in feeds]


def _read(journal: Path) -> Mapping[tuple[str, ...], Step | None]:
    """What was measured before; a last line cut short is as if it were not there."""
    from pydantic import TypeAdapter, ValidationError

    line = TypeAdapter(_Line)
    found = {}
    try:
        lines = journal.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    for text in lines:
        try:
            entry = line.validate_json(text)
        except ValidationError:
            continue
        found[entry.kept] = entry.step
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    kept: tuple[str, ...]
    step: Step | None


def _append(journal: Path, kept: tuple[str, ...], step: Step | None) -> None:
    from pydantic import TypeAdapter

    text = json.dumps(TypeAdapter(_Line).dump_python(_Line(kept=kept, step=step), mode="json"))
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")  # a line of its own even after one that was cut short
        file.flush()
        os.fsync(file.fileno())
