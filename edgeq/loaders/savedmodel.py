"""SavedModel folders of TensorFlow 1 and 2.

Only the graph is read, as a TensorFlow 1 session does: the object graph beside it needs the classes
that saved it (``'_UserObject' object has no attribute 'add_slot'`` is an optimizer of Keras 2).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.model import FloatModel, Source
from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.loaders import pivot, shapes, tensorflow, tf_to_onnx
from edgeq.ports import Array, Batch, LoadOptions, TensorSpecs

_GRAPH = "saved_model.pb"
_SIGNATURE = "serving_default"
_TAG = "serve"
_INIT_SIGNATURE = "__saved_model_init_op"
# Ops that run code, read, write or print: none belongs into a model that answers.
_UNSAFE_OPS = re.compile(
    r"PyFunc|File(?!name)|Reader|Dataset|Summary|Print|DebugIdentity|^Save|MergeV2Checkpoints|Rpc"
    r"|RemoteCall|ImmutableConst|ImportEvent"
)


def make() -> "SavedModelLoader":
    return SavedModelLoader()


class SavedModelLoader:
    def recognise(self, path: Path) -> str | None:
        if not path.is_dir():
            return None
        if (path / _GRAPH).is_file():
            return "saved-model"
        raise ModelError(
            f"{path} is a folder without {_GRAPH}, so it is no SavedModel",
            hint="name the folder that holds saved_model.pb, or a .h5, .keras or .tflite file",
        )

    def environments(self, kind: str, target: Format) -> tuple[str, ...]:
        del kind, target
        return ()

    def load(
        self,
        source: Source,
        folder: Path,
        options: LoadOptions,
        probe: Callable[[TensorSpecs], Sequence[Batch]],
    ) -> FloatModel:
        meta = _read_graph(source)
        signature = _choose_signature(source, meta)
        if not options.trust:
            _refuse_unsafe_ops(source, meta, signature)
        specs = _pinned_inputs(source, signature, options)
        with _session(source, meta) as session:
            frozen = _freeze(source, session, signature)
            path = pivot.path_in(folder, options.target)
            function, module = _function(source, frozen, signature, specs)
            tools = {"tensorflow": tensorflow.version()}
            if options.target == "onnx":
                tools["tf2onnx"] = version("tf2onnx")
            answer = _answer(source, session, signature)
            ways = _ways(source, function, module, options, path)
            return pivot.first_right(ways, lambda: pivot.finish(source, path, answer, probe, tools))


def _read_graph(source: Source) -> Any:  # noqa: ANN401  protobuf's classes have no types
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((source.path / _GRAPH).read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelError(
            f"{source.path / _GRAPH} is damaged: it is not a SavedModel's graph",
            hint="was the download or the copy cut short?",
        ) from error
    for meta in saved.meta_graphs:
        if _TAG in meta.meta_info_def.tags:
            return meta
    raise ModelError(
        f"{source.path} has no graph for serving (tag {_TAG!r})",
        hint="save it again: model.export(FOLDER), or tf.saved_model.save(model, FOLDER)",
    )


def _choose_signature(source: Source, meta: Any) -> Any:  # noqa: ANN401  see _read_graph
    known = {k: v for k, v in meta.signature_def.items() if k != _INIT_SIGNATURE and v.outputs}
    if _SIGNATURE in known:
        chosen = known[_SIGNATURE]
    elif len(known) == 1:
        (chosen,) = known.values()
    else:
        raise ModelError(
            f"{source.path} has no signature {_SIGNATURE!r}, only: {', '.join(sorted(known))}"
            if known
            else f"{source.path} has no signature, so it says not what goes in and out",
            hint="save it with signatures={'serving_default': …}",
        )
    if not chosen.inputs:
        raise ModelError(f"{source.path} is an empty model: its signature has no inputs")
    return chosen


def _refuse_unsafe_ops(source: Source, meta: Any, signature: Any) -> None:  # noqa: ANN401
    wanted = [_node_name(info.name) for info in signature.outputs.values()]
    restore = [_node_name(name) for name in (meta.saver_def.restore_op_name,) if name]
    reached = {node.op for node in _reachable(meta.graph_def, (*wanted, *restore))}
    if found := sorted(op for op in reached if _UNSAFE_OPS.search(op)):
        raise ModelError(
            f"{source.path} has the op {found[0]}, which runs code or touches files",
            hint="if you trust its maker: --trust-model loads it, in a child process",
        )


def _reachable(graph: Any, names: Iterable[str]) -> Iterator[Any]:  # noqa: ANN401
    """Nodes that running ``names`` can reach, through functions too."""
    nodes = {node.name: node for node in graph.node}
    functions = {item.signature.name: item for item in graph.library.function}
    waiting = [nodes[name] for name in names if name in nodes]
    seen_nodes = {node.name for node in waiting}
    seen_functions: set[str] = set()
    while waiting:
        node = waiting.pop()
        yield node
        for name in map(_node_name, node.input):
            if name in nodes and name not in seen_nodes:
                seen_nodes.add(name)
                waiting.append(nodes[name])
        for name in _called(node):
            if name in functions and name not in seen_functions:
                seen_functions.add(name)
                # a function's nodes are all taken: its control outputs run too
                waiting.extend(functions[name].node_def)


def _reachable_functions(graph: Any, names: Iterable[str]) -> set[str]:  # noqa: ANN401
    return {name for node in _reachable(graph, names) for name in _called(node)}


def _called(node: Any) -> Iterator[str]:  # noqa: ANN401  see _read_graph
    yield node.op
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":", 1)[0]


def _pinned_inputs(source: Source, signature: Any, options: LoadOptions) -> dict[str, Any]:  # noqa: ANN401
    import tensorflow as tf

    specs = {}
    for name, info in sorted(signature.inputs.items()):
        if info.tensor_shape.unknown_rank:
            raise ModelError(
                f"input {name} of {source.path} has no shape at all",
                hint="save it with an input_signature of fixed shape",
            )
        sides = [int(side.size) for side in info.tensor_shape.dim]
        kind = tf.dtypes.as_dtype(info.dtype)
        if kind == tf.string:
            raise ModelError(
                f"input {name} of {source.path} takes text, which edgeq does not feed",
                hint="export the part of the model behind its tokenizer",
            )
        specs[name] = tf.TensorSpec(shapes.pin(name, sides, options), kind, name=name)
    return specs


@contextmanager
def _session(source: Source, meta: Any) -> Iterator[Any]:  # noqa: ANN401  TensorFlow is untyped
    """A session with the graph's variables restored; its initialisers and main op are not run."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        try:
            saver = v1.train.import_meta_graph(meta, clear_devices=True)
            if saver is not None and (source.path / "variables" / "variables.index").is_file():
                saver.restore(session, str(source.path / "variables" / "variables"))
        except tensorflow.errors() as error:
            raise ModelError(
                f"TensorFlow cannot load {source.path}: {tensorflow.reason(error)}",
                hint="is the folder whole, with variables/variables.index and its data file?",
            ) from error
        yield session


def _freeze(source: Source, session: Any, signature: Any) -> Any:  # noqa: ANN401  see _session
    from tensorflow.python.framework import convert_to_constants

    wanted = [_node_name(info.name) for info in signature.outputs.values()]
    try:
        frozen = convert_to_constants.convert_variables_to_constants_from_session_graph(
            session, session.graph.as_graph_def(), wanted
        )
    except tensorflow.errors() as error:
        raise ModelError(
            f"TensorFlow cannot read the weights of {source.path}: {tensorflow.reason(error)}",
            hint="is the folder whole, with variables/variables.index and its data file?",
        ) from error
    # freezing renames the functions that it changes and leaves the old ones with broken calls
    called = _reachable_functions(frozen, wanted)
    kept = [item for item in frozen.library.function if item.signature.name in called]
    del frozen.library.function[:]
    frozen.library.function.extend(kept)
    return frozen


def _function(
    source: Source,
    frozen: Any,  # noqa: ANN401  see _session
    signature: Any,  # noqa: ANN401
    specs: Mapping[str, Any],
) -> tuple[Any, Any]:
    """A concrete function of fixed shapes, and the module that it belongs to."""
    import tensorflow as tf

    names = sorted(signature.outputs)

    def answers(**inputs: Any) -> dict[str, Any]:  # noqa: ANN401
        feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
        wanted = [signature.outputs[name].name for name in names]
        tensors = tf.graph_util.import_graph_def(
            frozen, input_map=feeds, return_elements=wanted, name=""
        )
        # an output that is an input itself has no node of its own
        return {k: tf.identity(tensor) for k, tensor in zip(names, tensors, strict=True)}

    module = tf.Module()
    try:
        module.answers = tf.function(answers).get_concrete_function(**specs)
    except tensorflow.errors() as error:
        raise ModelError(
            f"{source.path} cannot be given a batch of 1: {tensorflow.reason(error)}",
            hint="save it with an open batch",
        ) from error
    return module.answers, module


def _ways(
    source: Source,
    function: Any,  # noqa: ANN401  see _session
    module: Any,  # noqa: ANN401
    options: LoadOptions,
    path: Path,
) -> tuple[Callable[[], None], ...]:
    """To write the pivot, the best first."""
    write = partial(tensorflow.convert_function, source, function, module)
    if options.target == "tflite":
        return (partial(write, path),)
    return (
        partial(tf_to_onnx.convert_function, source, function, options, path),
        partial(tf_to_onnx.through_tflite, source, write, options, path),
    )


def _answer(source: Source, session: Any, signature: Any) -> pivot.Answer:  # noqa: ANN401
    wanted = {name: info.name for name, info in signature.outputs.items()}

    def answer(given: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {signature.inputs[name].name: array for name, array in given.items()}
        try:
            outputs = session.run(wanted, feeds)
        except tensorflow.errors() as error:
            raise ModelError(
                f"TensorFlow cannot run {source.path}: {tensorflow.reason(error)}"
            ) from error
        return {name: np.asarray(value) for name, value in outputs.items()}

    return answer
