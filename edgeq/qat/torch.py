"""Quantization-aware training of a PyTorch program (``.pt2``), by torchao's PT2E.

The program's graph gets int8 rounding where a runtime rounds and learns; its weights go back into
the program as it was loaded, so what comes out has the same graph, the same inputs and no trace of
the rounding.
"""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.errors import ModelError
from edgeq.qat import work
from edgeq.qat.work import Array, OnProgress, Trained, TrainRequest

_CHECKED = 16
_TOLERANCE = 1e-3  # as for a pivot, see loaders.pivot
_ALL = 1 << 30
_SLOW = (
    "the program was exported with a batch of 1, so it trains one sample after the other; with an "
    "open batch it is many times faster: torch.export.export(model, (example of 2 samples,), "
    "dynamic_shapes=({0: torch.export.Dim('batch')},))"
)


def train(request: TrainRequest, on_progress: OnProgress) -> Trained:
    """Train in this process and write the program of the best epoch.

    Raises:
        ModelError: an op is not covered, or the loss became no number.
    """
    # what a .pt2 brings beside its weights is not to be unpickled freely: loaders.torch_work
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch

    from edgeq.qat.torch_rounding import Rounding
    from edgeq.qat.torch_trainee import TorchTrainee

    warnings.simplefilter("ignore")
    on_progress("load", 0, 0)
    torch.manual_seed(request.seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    program = _load(request)
    most = _most_samples(program)
    rounding = Rounding(program)
    rounding.round_nothing()
    names = [str(name) for name in program.graph_signature.user_inputs]
    folders = (request.training, request.kept_back, request.calibration)
    samples = tuple(_in_order(stored.read(folder, ""), request, names) for folder in folders)
    difference = _check(program, rounding, samples[0], most, request.source.path.name)
    trainee = TorchTrainee(rounding, samples, request, most)
    done, resumed_at = work.run(trainee, request, samples[0].count, on_progress)
    _put_back(program, done.best_weights)
    path = request.folder / f"trained{request.suffix}"
    torch.export.save(program, path)
    return Trained(
        path=path,
        objective=trainee.objective.words,
        epochs=done.epochs,
        best=done.best,
        resumed_at=resumed_at,
        check_max_abs_diff=difference,
        tools={name: version(name) for name in ("torch", "torchao")},
        warnings=(_SLOW,) if most == 1 else (),
    )


def _load(request: TrainRequest) -> Any:  # noqa: ANN401  untyped library
    import torch

    try:
        return torch.export.load(request.source.path)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ModelError(
            f"PyTorch {torch.__version__} cannot load {request.source.path.name}: {error!s:.300}",
            hint="export it again with this PyTorch: torch.export.save(program, FILE)",
        ) from error


def _most_samples(program: Any) -> int:  # noqa: ANN401  untyped library
    """How many samples the program takes at once."""
    most = _ALL
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs:
            batch = node.meta["val"].shape[0]
            if isinstance(batch, int):
                return batch
            bounds = program.range_constraints.get(batch.node.expr)
            if bounds is not None and bounds.upper < _ALL:
                most = min(most, int(bounds.upper))
    return most


def _in_order(samples: Samples, request: TrainRequest, names: list[str]) -> Samples:
    """The inputs as the program has them."""
    places = [request.input_names.index(name) for name in names]
    return replace(samples, inputs=tuple(samples.inputs[place] for place in places))


def _check(program: Any, rounding: Any, samples: Samples, most: int, name: str) -> float:  # noqa: ANN401
    """Largest difference between the user's program and the one that shall round.

    Raises:
        ModelError: they are not the same.
    """
    import torch
    from torch.utils import _pytree as pytree

    module = program.module()
    largest, step = 0.0, min(most, _CHECKED)
    with torch.no_grad():
        for start in range(0, min(_CHECKED, samples.count), step):
            batch = rounding.tensors([array[start : start + step] for array in samples.inputs])
            arguments, words = pytree.tree_unflatten(batch, program.call_spec.in_spec)
            expected = pytree.tree_leaves(module(*arguments, **words))
            for want, got in zip(expected, rounding(batch), strict=True):
                difference = float((want - got).abs().max())
                if not difference <= _TOLERANCE * max(float(want.abs().max()), _TOLERANCE):
                    raise ModelError(
                        f"{name} cannot be trained: prepared for it, its answers are off by "
                        f"{difference:.3g} (largest value {float(want.abs().max()):.3g})"
                    )
                largest = max(largest, difference)
    return largest


def _put_back(program: Any, weights: Mapping[str, Array]) -> None:  # noqa: ANN401
    import torch

    with torch.no_grad():
        for name, array in weights.items():
            program.state_dict[name].copy_(torch.from_numpy(array))
