"""Outputs for inputs: the one implementation of inference, on the host and on every device."""

from __future__ import annotations

import time
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent import tensors
from edgeq.agent.ports import Array, FailureError, Runner, RuntimeModule

_PROGRESS_S = 0.2


def run(
    request: wire.Predict,
    module: RuntimeModule,
    on_progress: typing.Callable[[wire.Message], None],
) -> wire.Predicted:
    """Run every sample through the model, one at a time, and write the outputs; paths are absolute.

    Raises:
        FailureError: runtime, missing, model, refused.
    """
    tensors.check(module, Path(request.model))
    import_runtime(module)
    inputs = tensors.load_inputs(Path(request.inputs))
    runner = tensors.start(module, Path(request.model), request.runtime, inputs)
    feeds = [tensors.to_input(array, tensor) for array, tensor in zip(inputs, runner.inputs)]
    shapes = tensors.fitting_shapes(runner.inputs, inputs)
    start_s = time.monotonic()
    with tensors.running():
        outputs = _run_all(runner, feeds, shapes, on_progress)
    seconds = time.monotonic() - start_s
    if request.dequantize:
        outputs = [
            tensors.to_output(array, tensor) for array, tensor in zip(outputs, runner.outputs)
        ]
    _write(Path(request.outputs), outputs)
    return wire.Predicted(samples=len(inputs[0]), seconds=seconds)


def import_runtime(module: RuntimeModule) -> str:
    """Import a runtime; its version.

    Raises:
        FailureError: runtime.
    """
    try:
        import numpy as np  # noqa: F401  # the runtimes need it, and say so less plainly

        return module.version()
    except (ImportError, OSError, AttributeError) as error:
        message = f"{module.NAME} does not import: {error}"
        raise FailureError("runtime", message) from error


def _run_all(
    runner: Runner,
    feeds: typing.Sequence[Array],
    shapes: typing.Sequence[tuple[int, ...]],
    on_progress: typing.Callable[[wire.Message], None],
) -> list[Array]:
    import numpy as np

    total = len(feeds[0])
    rows: list[list[Array]] = [[] for _ in runner.outputs]
    told_s = time.monotonic()
    for sample in range(total):
        for position, (array, shape) in enumerate(zip(feeds, shapes)):
            runner.set(position, array[sample].reshape(shape))
        runner.invoke()
        for position, row in enumerate(rows):
            value = runner.get(position)
            row.append(value[0] if value.ndim and len(value) == 1 else value)
        if time.monotonic() - told_s > _PROGRESS_S:
            told_s = time.monotonic()
            on_progress(wire.Progress("predict", sample + 1, total))
    try:
        return [np.stack(row) for row in rows]
    except ValueError as error:
        raise FailureError("refused", "the outputs' shape differs by sample") from error


def _write(path: Path, outputs: typing.Sequence[Array]) -> None:
    import numpy as np

    fresh = path.with_name(path.name + ".part")
    with fresh.open("wb") as file:
        np.savez(file, **{str(position): array for position, array in enumerate(outputs)})
    fresh.replace(path)
