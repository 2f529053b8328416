"""Samples to a model's tensors and back."""

from __future__ import annotations

import contextlib
import typing
import zipfile
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Array, FailureError, Runner, RuntimeModule, Tensor

# What a runtime, or NumPy with its words about a damaged model's tensors, may raise.
_MODEL_ERRORS = (ValueError, RuntimeError, TypeError, IndexError, ArithmeticError)
_MOST_SAID = 300


def load_inputs(path: Path) -> list[Array]:
    """The arrays "0", "1", … of an .npz, each with the samples first, and as many of each.

    Raises:
        FailureError: missing, refused.
    """
    import numpy as np

    try:
        with np.load(str(path), allow_pickle=False) as archive:
            arrays = [archive[str(position)] for position in range(len(archive.files))]
    except FileNotFoundError as error:
        raise FailureError("missing", f"{path}: not there") from error
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FailureError("refused", f"{path}: not an .npz of inputs: {error}") from error
    counts = {len(array) if array.ndim else 0 for array in arrays}
    if len(counts) != 1 or counts == {0}:
        raise FailureError("refused", f"{path}: no samples, or not as many of each input")
    return arrays


def random_inputs(tensors: typing.Sequence[Tensor]) -> list[Array]:
    """One value for each input, always the same: noise, and zeros where numbers may be indices."""
    import numpy as np

    noise = np.random.RandomState(0)  # default_rng is younger than some device's numpy
    samples = []
    for tensor in tensors:
        shape, dtype = tensor.shape, np.dtype(tensor.dtype)
        if dtype.kind == "f":
            samples.append(noise.random_sample(shape).astype(dtype))
        elif tensor.scale:
            limits = np.iinfo(dtype)
            samples.append(noise.randint(limits.min, limits.max, shape).astype(dtype))
        else:
            samples.append(np.zeros(shape, dtype))
    return samples


def check(module: RuntimeModule, model: Path) -> None:
    """Is the file there, and fit to be opened?

    Raises:
        FailureError: missing, model.
    """
    if not model.is_file():
        raise FailureError("missing", f"{model}: not there")
    module.check(model)


def start(
    module: RuntimeModule,
    model: Path,
    runtime: wire.Runtime,
    inputs: typing.Sequence[Array] | None,
    *,
    observe: bool = False,
) -> Runner:
    """Load and allocate a checked model for samples of these shapes; None: for its own shapes.

    Raises:
        FailureError: model, refused.
    """
    try:
        runner = module.load(model, runtime, observe=observe)
        shapes = [tensor.shape for tensor in runner.inputs]
        if inputs is not None:
            shapes = fitting_shapes(runner.inputs, inputs)
        runner.resize(shapes)
    except _MODEL_ERRORS as error:
        message = f"{module.NAME} cannot load {model.name}: {_sentence(error)}"
        raise FailureError("model", message) from error
    return runner


@contextlib.contextmanager
def running() -> typing.Iterator[None]:
    """What the runtime says while a loaded model is used.

    Raises:
        FailureError: model, when it gives up.
    """
    try:
        yield
    except _MODEL_ERRORS as error:
        message = f"the runtime failed to run the model: {_sentence(error)}"
        raise FailureError("model", message) from error


def _sentence(error: Exception) -> str:
    """What a runtime said, in one line; the end tells more than the beginning."""
    said = " ".join(str(error).split())
    return said if len(said) <= _MOST_SAID else "… " + said[-_MOST_SAID:]


def fitting_shapes(
    tensors: typing.Sequence[Tensor], inputs: typing.Sequence[Array]
) -> list[tuple[int, ...]]:
    """The shape each input takes for one sample: (1, …), or the sample's where that is the tensor.

    Raises:
        FailureError: refused, when a sample does not fit.
    """
    if len(tensors) != len(inputs):
        message = f"the model has {len(tensors)} inputs, the file {len(inputs)}"
        raise FailureError("refused", message)
    return [
        _fitting_shape(position, tensor, tuple(int(size) for size in array.shape[1:]))
        for position, (tensor, array) in enumerate(zip(tensors, inputs))
    ]


def _fitting_shape(position: int, tensor: Tensor, sample: tuple[int, ...]) -> tuple[int, ...]:
    if tensor.signature and _matches(tensor.signature[1:], sample):
        return (1, *sample)
    if _matches(tensor.signature, sample):
        return sample
    wanted = f"input {position} ({tensor.name}) takes {list(tensor.signature)}"
    message = f"{wanted}, the sample is {list(sample)}"
    raise FailureError("refused", message)


def _matches(signature: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(signature) == len(shape) and all(
        wanted in {-1, size} for wanted, size in zip(signature, shape)
    )


def to_input(samples: Array, tensor: Tensor) -> Array:
    """Samples in the model's dtype: as they are, quantized, or converted where nothing is lost.

    Raises:
        FailureError: refused.
    """
    import numpy as np

    dtype = np.dtype(tensor.dtype)
    if samples.dtype == dtype:
        return samples
    if samples.dtype == np.float32 and tensor.scale and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        steps = np.rint(samples / np.float32(tensor.scale)) + np.float32(tensor.zero_point)
        return np.clip(steps, limits.min, limits.max).astype(dtype)
    converted = samples.astype(dtype)
    if not np.array_equal(converted.astype(samples.dtype), samples):
        message = f"input {tensor.name!r} is {tensor.dtype}, the samples are {samples.dtype.name}"
        raise FailureError("refused", message)
    return converted


def to_output(values: Array, tensor: Tensor) -> Array:
    """Float32 of the real values."""
    import numpy as np

    if tensor.scale and np.dtype(tensor.dtype).kind in "iu":
        steps = values.astype(np.float32) - np.float32(tensor.zero_point)
        return steps * np.float32(tensor.scale)
    return values.astype(np.float32)
