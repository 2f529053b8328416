"""ONNX Runtime: the package ``onnxruntime``, or ``onnxruntime-gpu`` where its owner put one.

Inputs and outputs are bound to memory once, which spares each run the copies and look-ups of
``session.run``. What is bound stays referenced here: ONNX Runtime does not hold it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shutil
import sys
import tempfile
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent import onnxfile
from edgeq.agent.ports import Array, Runner, Tensor

NAME = "ONNX Runtime"
SUFFIX = ".onnx"
# edgeq's own key: {"name": [scale, zero point]} of quantized inputs and outputs, whose types in
# ONNX carry no scale.
IO_KEY = "edgeq.io"
_PROVIDER = "{}ExecutionProvider"
_ONNX_NAMES = {"TensorRT": "Tensorrt", "XNNPACK": "Xnnpack"}
_SHORT_NAMES = {"Tensorrt": "TensorRT", "Xnnpack": "XNNPACK"}
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip
_ERRORS_ONLY = 3
ENGINES = "engines"  # under the agent's folder, the child's current one
Session = typing.Any  # onnxruntime.InferenceSession; the package has no types
Options = typing.Any  # onnxruntime.SessionOptions


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def providers() -> tuple[str, ...]:
    """Those that this build has, in its own order."""
    import onnxruntime

    return tuple(_short(name) for name in onnxruntime.get_available_providers())


def check(model: Path) -> None:
    """Refuse a file that is none, or that names others."""
    onnxfile.read(model)


def load(model: Path, runtime: wire.Runtime, *, observe: bool) -> Runner:
    import onnxruntime.capi.onnxruntime_pybind11_state as native

    found = [value for value in vars(native).values() if isinstance(value, type)]
    own = [value for value in found if issubclass(value, Exception)]
    errors: tuple[type[Exception], ...] = (ValueError, RuntimeError, *own)
    trace = tempfile.mkdtemp(prefix="edgeq-") if observe and _asks_for_more(runtime) else ""
    try:
        return OnnxRunner(_open(model, runtime, trace, errors), trace)
    except errors as error:
        _forget(trace)
        raise ValueError(str(error)) from error
    except BaseException:
        _forget(trace)
        raise


class OnnxRunner:
    """A session whose inputs and outputs are bound.

    Outputs are made by ONNX Runtime in its first run, and written to again by the later ones.
    """

    def __init__(self, session: Session, trace: str) -> None:
        self._session = session
        self._trace = trace
        self._binding = session.io_binding()
        self.invoke: typing.Callable[[], None] = functools.partial(
            session.run_with_iobinding, self._binding
        )
        self._bound: dict[int, Array] = {}
        scales = _scales(session.get_modelmeta().custom_metadata_map)
        self.inputs = tuple(_tensor(node, scales) for node in session.get_inputs())
        self.outputs = tuple(_tensor(node, scales) for node in session.get_outputs())

    def resize(self, shapes: typing.Sequence[tuple[int, ...]]) -> None:
        for tensor, shape in zip(self.inputs, shapes):
            fits = len(shape) == len(tensor.signature) and all(
                wanted in (-1, size) for wanted, size in zip(tensor.signature, shape)
            )
            if not fits:
                wanted = list(tensor.signature)
                raise ValueError(f"input {tensor.name!r} is {wanted} and cannot be {list(shape)}")
        self._bind_outputs(self.outputs)

    def set(self, position: int, value: Array) -> None:
        import numpy as np

        tensor = self.inputs[position]
        held = np.array(value, dtype=tensor.dtype, order="C")
        self._binding.bind_cpu_input(tensor.name, held)
        self._bound[position] = held  # after the one bound before was let go by the binding
        # Their shape may depend on what is in the inputs; bound anew, they are made anew.
        self._bind_outputs([one for one in self.outputs if -1 in one.signature])

    def get(self, position: int) -> Array:
        import numpy as np

        value = self._binding.get_outputs()[position].numpy()
        return np.array(value, dtype=self.outputs[position].dtype)

    def placements(self) -> tuple[wire.Placement, ...]:
        """From ONNX Runtime's own trace of the runs so far, which ends with this call."""
        if not self._trace:
            return ()
        try:
            return _placements(Path(self._session.end_profiling()))
        finally:
            _forget(self._trace)
            self._trace = ""

    def _bind_outputs(self, tensors: typing.Sequence[Tensor]) -> None:
        for tensor in tensors:
            self._binding.bind_output(tensor.name, "cpu")


def _open(
    model: Path, runtime: wire.Runtime, trace: str, errors: tuple[type[Exception], ...]
) -> Session:
    """A session with the first of the wished providers that lets one be made, and those after it.

    ONNX Runtime's own way back to the CPU is switched off, as far as it can be: it takes all other
    providers away, too. A provider that fails to load is dropped by it without an error even so
    (github.com/microsoft/onnxruntime/issues/17801); ``placements`` shows what was used.
    """
    import onnxruntime

    wished = _wished(model, runtime)
    plain = onnxfile.read(model).plain
    while True:
        names = [*wished, (_onnx_name("CPU"), {})]
        try:
            options = _options(runtime, [name for name, _ in wished], trace)
            if not plain:
                # x86 without VNNI adds two products of 8 bits in 16, which overflow; this way they
                # do not. Nothing changes elsewhere: onnxruntime_session_options_config_keys.h
                options.add_session_config_entry("session.x64quantprecision", "1")
            session = onnxruntime.InferenceSession(
                str(model),
                options,
                providers=[name for name, _ in names],
                provider_options=[options for _, options in names],
                enable_fallback=0,
            )
        except errors as error:
            if not wished:
                raise
            sys.stderr.write(f"{wished[0][0]} cannot run this model: {error}\n")
            del wished[0]
        else:
            session.disable_fallback()
            return session


def _wished(model: Path, runtime: wire.Runtime) -> list[tuple[str, dict[str, str]]]:
    """The providers asked for that this build has, without the CPU, and their options."""
    there = providers()
    names = [name for name in runtime.providers if name in there and name != "CPU"]
    return [(_onnx_name(name), _provider_options(name, model, runtime)) for name in names]


def _provider_options(name: str, model: Path, runtime: wire.Runtime) -> dict[str, str]:
    """As onnxruntime.ai/docs/execution-providers/<name>-ExecutionProvider.html has them."""
    if name == "XNNPACK":
        return {"intra_op_num_threads": str(runtime.threads)}
    if name != "TensorRT":
        return {}
    contents = onnxfile.read(model)
    # Building an engine takes minutes, and each process would do it again. A folder for each
    # model, since the names of the engines in it do not depend on the weights.
    engines = Path(ENGINES, hashlib.sha256(model.read_bytes()).hexdigest()[:32])
    engines.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(engines),
        "trt_int8_enable": str(contents.quantized),
        "trt_fp16_enable": str(contents.half),
    }


def _options(runtime: wire.Runtime, used: typing.Sequence[str], trace: str) -> Options:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # XNNPACK has threads of its own; two pools would wait for each other.
    threads = 1 if _onnx_name("XNNPACK") in used else runtime.threads
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if threads == 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = runtime.arena
    level = _LEVELS.get(runtime.graph_optimization)
    if level is None:
        raise ValueError(f"no graph optimization {runtime.graph_optimization!r}")
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = _ERRORS_ONLY
    if trace:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(trace) / "trace")
    return options


def _placements(trace: Path) -> tuple[wire.Placement, ...]:
    """Providers and how many different nodes each ran, in the order of their first node."""
    nodes: dict[str, set[str]] = {}
    for event in json.loads(trace.read_text("utf-8", "replace")):
        provider = event.get("args", {}).get("provider", "")
        if event.get("cat") == "Node" and provider:
            nodes.setdefault(_short(provider), set()).add(event["name"])
    return tuple(wire.Placement(provider, len(names)) for provider, names in nodes.items())


def _scales(metadata: dict[str, str]) -> dict[str, tuple[float, int]]:
    """What edgeq wrote into the model about its quantized inputs and outputs."""
    try:
        known = json.loads(metadata.get(IO_KEY, "{}"))
        scales = {str(name): (float(pair[0]), int(pair[1])) for name, pair in known.items()}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"its metadata {IO_KEY} cannot be read") from error
    if not all(math.isfinite(scale) and scale > 0 for scale, _ in scales.values()):
        raise ValueError(f"its metadata {IO_KEY} holds a scale that is none")
    return scales


def _tensor(node: typing.Any, scales: dict[str, tuple[float, int]]) -> Tensor:  # noqa: ANN401
    element = node.type[len("tensor(") : -1] if node.type.startswith("tensor(") else ""
    if element not in _DTYPES:
        raise ValueError(f"{node.name!r} is a {node.type}, which is no array of numbers")
    dtype = _DTYPES[element]
    signature = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    scale, zero_point = scales.get(node.name, (0.0, 0)) if "int" in dtype else (0.0, 0)
    return Tensor(
        name=node.name,
        shape=tuple(1 if size == -1 else size for size in signature),
        signature=signature,
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,
    )


def _asks_for_more(runtime: wire.Runtime) -> bool:
    return any(name != "CPU" for name in runtime.providers)


def _onnx_name(name: str) -> str:
    return _PROVIDER.format(_ONNX_NAMES.get(name, name))


def _short(name: str) -> str:
    short = name[: -len("ExecutionProvider")] if name.endswith("ExecutionProvider") else name
    return _SHORT_NAMES.get(short, short)


def _forget(trace: str) -> None:
    if trace:
        shutil.rmtree(trace, ignore_errors=True)
