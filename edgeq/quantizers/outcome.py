"""What both quantizers do with the file that they made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq import formats
from edgeq.core.model import FloatModel, TensorSpec
from edgeq.errors import GateError, ModelError
from edgeq.formats import Tensors

NO_CALIBRATION = (
    "no calibration data, so int8 became int8-dynamic: int8 weights, activations quantized at run "
    "time; give data with --calibration PATH or [calibration] in edgeq.toml"
)


def other_precisions(precision: str) -> str:
    """The hint for a precision that cannot be had."""
    others = [p for p in ("int8-dynamic", "fp16", "float32") if p != precision]
    return f"--precision {' or '.join(others)}"


def tried(pivot: FloatModel, path: Path, precision: str, *, runtime: str) -> Tensors:
    """Load and run it once: a runtime may refuse what the quantizer wrote.

    Args:
        pivot: What it was made from.
        path: The file.
        precision: What it was made to.
        runtime: The name of the one that runs it here.

    Raises:
        GateError: the runtime refuses it.
        ModelError: its tensors are not the pivot's.
    """
    try:
        runner = formats.of(path).runner(path)
        tensors = runner.tensors
        runner.run([np.zeros(spec.shape, spec.dtype) for spec in tensors.inputs])
    except ModelError as error:
        reason = error.message.removeprefix(f"{runtime} cannot load {path.name}: ")
        raise GateError(
            f"{precision} of {pivot.source.path.name} cannot run in {runtime}: {reason}",
            hint=other_precisions(precision),
        ) from error
    for before, after in ((pivot.inputs, tensors.inputs), (pivot.outputs, tensors.outputs)):
        if [(s.name, s.shape) for s in before] != [(s.name, s.shape) for s in after]:
            raise ModelError(
                f"quantizing {pivot.source.path.name} changed its tensors: "
                f"{_listed(before)} became {_listed(after)}"
            )
    return tensors


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
