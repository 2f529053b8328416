"""What every loader does last: pin the pivot's facts and compare it with its source."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from edgeq import digest, formats
from edgeq.core.model import FloatModel, Source
from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.ports import Array, Batch, TensorSpecs


def path_in(folder: Path, target: Format) -> Path:
    """Where the pivot of a format stands."""
    return folder / f"pivot.{target}"


TOLERANCE = 1e-3
"""Largest difference of an output, relative to its largest value: float32 sums in another order
give some 1e-6, a layer that was converted wrongly gives 1e-2 and more."""

Doubles = npt.NDArray[np.float64]
Answer = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""The source model's outputs by name, for inputs by name."""


class RejectedSampleError(ModelError):
    """``place``: of the batch that the model could not take."""

    def __init__(self, place: int, cause: ModelError) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.place = place


_INPUT_TYPES = frozenset({"float32", "int8", "uint8", "int16", "int32", "int64", "bool"})


def finish(
    source: Source,
    path: Path,
    answer: Answer,
    probe: Callable[[TensorSpecs], Sequence[Batch]],
    tools: dict[str, str],
) -> FloatModel:
    """The pivot at ``path`` as a value, once it has given the source's answers.

    Raises:
        ModelError: it computes nothing, gives NaN, or other answers than its source.
        RejectedSampleError: its source, or it, cannot take one of the batches.
    """
    runner = formats.of(path).runner(path)
    describe(source, path, runner.tensors)
    batches = probe(runner.tensors.inputs)
    differences = (_difference(source, runner, answer, *item) for item in enumerate(batches))
    largest = max(differences, default=0.0)
    return FloatModel(
        path=path,
        format=cast("Format", path.suffix.removeprefix(".")),
        sha256=digest.of_file(path),
        source=source,
        inputs=runner.tensors.inputs,
        outputs=runner.tensors.outputs,
        check_samples=len(batches),
        check_max_abs_diff=largest,
        tools=tools,
    )


def first_right(
    ways: Sequence[Callable[[], None]], finished: Callable[[], FloatModel]
) -> FloatModel:
    """The pivot of the first way to write it whose numbers are the source's.

    Raises:
        ModelError: what the first way's was, when none is right.
    """
    first: ModelError | None = None
    for write in ways:
        try:
            write()
            return finished()
        except RejectedSampleError:
            raise  # the data's fault
        except ModelError as error:
            first = first or error
    raise first or ModelError("there is no way to write the pivot")


def describe(source: Source, path: Path, tensors: formats.Tensors) -> None:
    """Refuse what nothing after the pivot can use.

    Raises:
        ModelError: it computes nothing, or takes inputs of a type that no data file gives.
    """
    if not formats.of(path).op_names(path):
        raise ModelError(
            f"{source.path.name} is an empty model: it computes nothing",
            hint="was it saved before its layers were added?",
        )
    for spec in tensors.inputs:
        if spec.dtype not in _INPUT_TYPES:
            raise ModelError(
                f"input {spec.name} of {source.path.name} takes {spec.dtype}, "
                "which edgeq does not feed",
                hint=f"it feeds {', '.join(sorted(_INPUT_TYPES))}",
            )


def _difference(
    source: Source, runner: formats.Runner, answer: Answer, place: int, batch: Batch
) -> float:
    """Largest absolute difference over all outputs."""
    names = [spec.name for spec in runner.tensors.inputs]
    try:
        expected = answer(dict(zip(names, batch, strict=True)))
        outputs = runner.run(batch)
    except ModelError as error:
        raise RejectedSampleError(place, error) from error
    largest = 0.0
    for spec, raw in zip(runner.tensors.outputs, outputs, strict=True):
        if spec.name not in expected:
            raise ModelError(
                f"the pivot of {source.path.name} has an output {spec.name} that its source "
                f"lacks; it has {', '.join(expected)}"
            )
        want, got = (np.asarray(array, np.float64) for array in (expected[spec.name], raw))
        _refuse_nan(source, spec.name, want, got)
        if want.shape != got.shape:
            raise ModelError(
                f"output {spec.name} of {source.path.name} has shape {want.shape}, "
                f"but {got.shape} after conversion"
            )
        difference = float(np.max(np.abs(want - got), initial=0.0))
        scale = float(np.max(np.abs(want), initial=0.0))
        if difference > TOLERANCE * max(scale, TOLERANCE):
            raise ModelError(
                f"output {spec.name} of {source.path.name} is off by {difference:.3g} (largest "
                f"value {scale:.3g}) after conversion to the float pivot",
                hint="does the model draw random numbers? otherwise one of its layers is "
                "converted wrongly",
            )
        largest = max(largest, difference)
    return largest


def _refuse_nan(source: Source, name: str, want: Doubles, got: Doubles) -> None:
    for what, array in (("itself", want), ("after conversion to the float pivot", got)):
        if not np.all(np.isfinite(array)):
            raise ModelError(
                f"output {name} of {source.path.name} is NaN or infinite {what}",
                hint="does [input] in edgeq.toml give the range of values it was trained on?"
                if what == "itself"
                else "",
            )
