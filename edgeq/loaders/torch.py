"""PyTorch's models: ``.pt2`` of torch.export, and TorchScript; loaded in PyTorch's environment."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgeq import worker
from edgeq.core.model import FloatModel, Source
from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.formats import onnx, tflite
from edgeq.loaders import pivot, torch_archive, torch_work
from edgeq.loaders.onnx import write_pivot
from edgeq.loaders.torch_sources import Given
from edgeq.ports import Array, Batch, LoadOptions, OnProgress, TensorSpecs

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
_ENVIRONMENT = "torch"


def make() -> "TorchLoader":
    return TorchLoader()


class TorchLoader:
    def recognise(self, path: Path) -> str | None:
        return torch_archive.kind_of(path)

    def environments(self, kind: str, target: Format) -> tuple[str, ...]:
        del kind, target
        return (_ENVIRONMENT,)

    def load(
        self,
        source: Source,
        folder: Path,
        options: LoadOptions,
        probe: Callable[[TensorSpecs], Sequence[Batch]],
    ) -> FloatModel:
        if not options.trust:
            torch_archive.refuse_code(source.path, source.kind)
        there = _There(options)
        given = Given(source=source, options=options)
        with tempfile.TemporaryDirectory(dir=folder, prefix="torch-") as scratch:
            raw = Path(scratch, f"raw.{options.target}")
            request = torch_work.WriteRequest(given=given, target=options.target, path=raw)
            made = there.call(torch_work.write, request)
            path = pivot.path_in(folder, options.target)
            _name(raw, made, source, options, path)
            answers = _Answers(given, there, Path(scratch), made)
            return pivot.finish(source, path, answers.next, answers.asked(probe), made.tools)


def _name(
    raw: Path, made: torch_work.Written, source: Source, options: LoadOptions, path: Path
) -> None:
    """Write what PyTorch made as a pivot with the source's names."""
    if options.target == "onnx":
        model = onnx.read(raw)
        _forget_origin(model)
        write_pivot(model, source.path.name, options, path)
    else:
        tflite.rename(raw, made.inputs, made.outputs, path)


def _forget_origin(model: onnx.Model) -> None:
    """Drop what the exporter tells of the user's source files: stack traces with their paths."""
    graph = model.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del item.metadata_props[:]
        item.doc_string = ""


class _There:
    """Calls into PyTorch's environment."""

    def __init__(self, options: LoadOptions) -> None:
        self._options = options

    def call(self, function: Callable[[RequestT, OnProgress], ReplyT], request: RequestT) -> ReplyT:
        python = self._options.pythons[_ENVIRONMENT]
        log = self._options.log or Path(os.devnull)
        return worker.call(function, request, log=log, python=python)


class _Answers:
    """The source's answers to all batches, fetched at once: PyTorch takes seconds to start."""

    def __init__(
        self, given: Given, there: _There, scratch: Path, made: torch_work.Written
    ) -> None:
        self._given = given
        self._there = there
        self._scratch = scratch
        self._made = made
        self._next = 0
        self._answered = torch_work.Answered(count=0, error="")

    def asked(
        self, probe: Callable[[TensorSpecs], Sequence[Batch]]
    ) -> Callable[[TensorSpecs], Sequence[Batch]]:
        """``probe`` that has the source answer before the comparison begins."""

        def ask(inputs: TensorSpecs) -> Sequence[Batch]:
            batches = probe(inputs)
            places = [self._made.inputs.index(spec.name) for spec in inputs]
            for number, batch in enumerate(batches):
                arrays = {f"input_{k}": a for k, a in zip(places, batch, strict=True)}
                np.savez(self._scratch / f"{number}.npz", **arrays)  # type: ignore[arg-type]
            request = torch_work.AnswerRequest(
                given=self._given, folder=self._scratch, count=len(batches)
            )
            self._answered = self._there.call(torch_work.answer, request)
            return batches

        return ask

    def next(self, _: Mapping[str, Array]) -> dict[str, Array]:
        """Answers in the order of the batches.

        Raises:
            ModelError: the source could not take this batch.
        """
        number, self._next = self._next, self._next + 1
        if number >= self._answered.count:
            raise ModelError(self._answered.error)
        with np.load(self._scratch / f"{number}.out.npz") as arrays:
            return {name: arrays[name] for name in self._made.outputs}
