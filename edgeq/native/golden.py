"""The golden set replayed by ``benchmark_model``: files in, one file out, sample by sample.

``--input_layer_value_files`` takes raw tensors, ``--output_filepath`` (TensorFlow 2.10 and newer)
writes the outputs one behind the other, as raw bytes in the model's own types.
"""

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from edgeq.core import bundle as bundles
from edgeq.core import parity
from edgeq.core.bundle import Bundle, Tensor
from edgeq.core.parity import Parity
from edgeq.errors import AgentError, BundleError, TrialError
from edgeq.native import run
from edgeq.native.depot import Depot
from edgeq.native.phone import FOLDER
from edgeq.ports import Array, Floats, Link, OnProgress

_SCRATCH = "scratch"
_OUTPUT = f"{FOLDER}/{_SCRATCH}/outputs.bin"
_FLAGS = ("--num_runs=1", "--min_secs=0", "--warmup_runs=1", "--warmup_min_secs=0")


def compare(
    link: Link,
    depot: Depot,
    argv: Sequence[str],
    bundle: Bundle,
    expected: Sequence[Floats],
    limit_s: float,
    on_progress: OnProgress,
) -> Parity | str:
    """Host against phone, or why they could not be compared.

    Args:
        link: The open connection.
        depot: The phone's files.
        argv: The program with model, threads and delegate.
        bundle: Whose golden set it is.
        expected: The host's outputs.
        limit_s: For each sample.
        on_progress: Hears of samples.

    Raises:
        TrialError: the model crashed or hung.
    """
    manifest = bundle.manifest
    names = _names(bundle)
    if odd := _unfit(names, [*manifest.inputs, *manifest.outputs]):
        return odd
    inputs = _arrays(bundle)
    count = len(inputs[0])
    answers: list[list[Floats]] = []
    for sample in range(count):
        on_progress("replay golden set", sample, count)
        values = [
            _raw(array[sample], tensor)
            for array, tensor in zip(inputs, manifest.inputs, strict=True)
        ]
        words = _inputs(depot, names, values)
        depot.remove(f"{_SCRATCH}/outputs.bin")
        ran = run.run(
            link, FOLDER, [*argv, *_FLAGS, *words, f"--output_filepath={_OUTPUT}"], limit_s
        )
        if ran.status:
            run.require_started(ran, run.program_of(argv))
            return _refused(ran)
        outputs = _outputs(depot, manifest.outputs, [array[sample].shape for array in expected])
        if isinstance(outputs, str):
            return outputs
        answers.append(outputs)
    found = [np.stack([answer[place] for answer in answers]) for place in range(len(expected))]
    return parity.compare(expected, found, manifest.precision)


def _names(bundle: Bundle) -> list[str]:
    """Names of the input tensors in the file, which are not those of its signature."""
    from edgeq.formats.tflite_graph import Graph  # its library takes a while to load

    graph = Graph(bundle.files[bundle.manifest.model_file])
    return [graph.tensors[number].name for number in graph.inputs]


def _unfit(names: Sequence[str], tensors: Sequence[Tensor]) -> str:
    """What the program's flags cannot name; empty where there is nothing."""
    for name in names:
        if not name or "," in name:
            return f"benchmark_model cannot be given the input {name!r}"
    for tensor in tensors:
        if np.dtype(tensor.dtype).kind not in "fiub":
            return f"benchmark_model cannot be given {tensor.name!r} ({tensor.dtype})"
    return ""


def _inputs(depot: Depot, names: Sequence[str], values: Sequence[Array]) -> list[str]:
    """Send one sample and name it in the program's flags."""
    files = []
    for place, (tensor, value) in enumerate(zip(names, values, strict=True)):
        name = f"{_SCRATCH}/input-{place}.bin"
        depot.put(name, value.tobytes())
        # A colon in a tensor's name is written twice.
        files.append(f"{tensor.replace(':', '::')}:{FOLDER}/{name}")
    shapes = [",".join(map(str, (1, *value.shape))) for value in values]
    return [
        f"--input_layer={','.join(names)}",
        f"--input_layer_shape={':'.join(shapes)}",
        f"--input_layer_value_files={','.join(files)}",
    ]


def _outputs(
    depot: Depot, tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]
) -> list[Floats] | str:
    """The outputs as real numbers, or why there are none."""
    sizes = [
        int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
        for tensor, shape in zip(tensors, shapes, strict=True)
    ]
    data: bytes | None = None
    with contextlib.suppress(AgentError):
        data = depot.read(_OUTPUT, sum(sizes))
    if data is None:
        return "this build of benchmark_model has no --output_filepath"
    if len(data) != sum(sizes):
        return f"benchmark_model wrote {len(data)} bytes of outputs, the model has {sum(sizes)}"
    found, offset = [], 0
    for tensor, shape, size in zip(tensors, shapes, sizes, strict=True):
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        values = np.frombuffer(data[offset : offset + size], dtype=dtype).reshape(shape)
        found.append(_real(values, tensor))
        offset += size
    return found


def _raw(value: Array, tensor: Tensor) -> Array:
    """A sample in the model's type, quantized by the tensor's own parameters."""
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    if value.dtype == np.float32 and tensor.scale and dtype.kind in "iu":
        limits = np.iinfo(tensor.dtype)
        real = value.astype(np.float32)
        steps = np.rint(real / np.float32(tensor.scale)) + np.float32(tensor.zero_point or 0)
        quantized: Array = np.clip(steps, limits.min, limits.max).astype(dtype)
        return quantized
    same: Array = value.astype(dtype)
    return same


def _real(values: Array, tensor: Tensor) -> Floats:
    if tensor.scale and values.dtype.kind in "iu":
        steps = values.astype(np.float32) - np.float32(tensor.zero_point or 0)
        return (steps * np.float32(tensor.scale)).astype(np.float32)
    return values.astype(np.float32)


def _arrays(bundle: Bundle) -> list[Array]:
    with np.load(io.BytesIO(bundle.files[bundles.GOLDEN_INPUTS]), allow_pickle=False) as file:
        found = [file[str(number)] for number in range(len(file.files))]
    if len(found) != len(bundle.manifest.inputs):
        raise BundleError("the bundle's golden set does not fit the tensors of its manifest")
    return found


def _refused(ran: run.Ran) -> str:
    """What a build says that cannot be given inputs.

    Raises:
        TrialError: it is the model that fails.
    """
    told = run.told(ran.lines)
    if any(word in told for word in ("input_layer", "value_file", "output_file", "input value")):
        return f"this build of benchmark_model takes no input files: {told[:200]}"
    raise TrialError(f"benchmark_model failed with status {ran.status}: {told[:300]}")
