"""Samples to a model's tensors and back."""

from __future__ import annotations

import typing
import zipfile
from pathlib import Path

from edgeq.agent.ports import Array, FailureError, Runner, RuntimeModule, Tensor


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


def start(
    runtime: RuntimeModule, model: Path, threads: int, inputs: typing.Sequence[Array] | None
) -> Runner:
    """Load and allocate a model for samples of these shapes; None: for its own shapes.

    Raises:
        FailureError: missing, model, refused.
    """
    if not model.is_file():
        raise FailureError("missing", f"{model}: not there")
    try:
        runner = runtime.load(model, threads)
        shapes = [tensor.shape for tensor in runner.inputs]
        if inputs is not None:
            shapes = fitting_shapes(runner.inputs, inputs)
        runner.resize(shapes)
    except (ValueError, RuntimeError) as error:
        message = f"{runtime.NAME} cannot load {model.name}: {error}"
        raise FailureError("model", message) from error
    return runner


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
