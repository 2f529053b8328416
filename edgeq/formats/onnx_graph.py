"""A model of .onnx rewritten, its answers unchanged: shapes, versions, names."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import ModelError
from edgeq.formats import Array, onnx_walk
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model

OPSET_MIN = 13
"""The first whose QuantizeLinear knows channels."""

_TOLERANCE = 1e-5
# Kept their attributes in opset 13, but from then on take one axis where they took all after it.
_CHANGED_QUIETLY = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
_QUIET_CHANGE = 13
_OWN_DOMAINS = ("", "ai.onnx")


def pin(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give inputs a fixed shape; all other shapes are forgotten, as they may depend on it."""
    constants = {item.name for item in model.graph.initializer}
    kept = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for item in model.graph.input:
        if item.name in shapes:
            _set_shape(item, shapes[item.name])
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def simplified(model: Model, name: str) -> Model:
    """Constants folded, batch normalization inside the convolutions, all shapes inferred.

    What ``onnxruntime.quantization.quant_pre_process`` does, on a model that was pinned.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        path = Path(folder) / "simplified.onnx"
        files.session(model, name, optimized=path)
        made = files.read(path)
    made.ir_version = ir_for(files.opset(made))
    _drop_unused(made)
    files.drop_metadata(made, "edgeq.")  # what an artifact says of itself
    name_nodes(made)
    try:
        return onnx.shape_inference.infer_shapes(made, data_prop=True)
    except files.errors() as error:
        raise ModelError(f"{name} is damaged: {files.reason(error)}") from error


def close_outputs(model: Model, name: str) -> None:
    """Write the shapes of outputs that inference left open, as two runs show them.

    Raises:
        ModelError: it cannot run, or a shape depends on the values.
    """
    if all(_sides(item) is not None for item in model.graph.output):
        return
    loaded = files.session(model, name)
    feeds = [_feed(model, seed) for seed in (1, 2)]
    first, second = (files.run(loaded, feed) for feed in feeds)
    for item in model.graph.output:
        if np.shape(first[item.name]) != np.shape(second[item.name]):
            raise ModelError(
                f"output {item.name} of {name} has a shape that depends on the input's values",
                hint="cut off what comes after the scores, such as NonMaxSuppression: "
                "onnx.utils.extract_model",
            )
        _set_shape(item, np.shape(first[item.name]))


def at_opset(model: Model, version: int, name: str) -> Model:
    """The model with the operators of an opset version, its answers the same.

    Raises:
        ModelError: it needs operators that this version does not have.
    """
    if files.opset(model) == version:
        return model
    changed = sorted(_changed(model, version))
    if not changed:
        return _relabelled(model, version)
    for attempt in (_relabelled, _converted):
        made = attempt(model, version)
        if made is not None and _same_answers(model, made, name):
            return made
    raise ModelError(
        f"{name} is of opset {files.opset(model)} and cannot be taken to opset {version}: "
        f"{', '.join(changed)} changed between them",
        hint=f"export it again with opset {version}",
    )


def upgraded(model: Model, name: str) -> Model:
    """The model at ``OPSET_MIN`` or above, not compared.

    Raises:
        ModelError: onnx cannot.
    """
    if files.opset(model) >= OPSET_MIN:
        return model
    made = _converted(model, OPSET_MIN)
    if made is None:
        raise ModelError(
            f"{name} is of opset {files.opset(model)} and cannot be taken to opset {OPSET_MIN}",
            hint=f"export it again with opset {OPSET_MIN} or newer",
        )
    return made


def ir_for(opset: int) -> int:
    """The IR version that came with an opset: what every runtime for that opset takes."""
    from onnx import helper

    known = {
        version: ir
        for (domain, version), ir in helper.OP_SET_ID_VERSION_MAP.items()
        if domain == "ai.onnx"
    }
    return int(known.get(opset, max(known.values())))


def runtime_opset() -> int:
    """The newest opset that this machine's ONNX Runtime takes, which it does not tell."""
    from onnx import TensorProto, defs, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "", value[:1], value[1:]
    )
    for version in range(defs.onnx_opset_version(), OPSET_MIN, -1):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
        model.ir_version = ir_for(version)
        try:
            files.session(model, "a trial")
        except ModelError:
            continue
        return version
    return OPSET_MIN


def name_nodes(model: Model) -> None:
    """Give every node of the graph a name of its own: that of its first output, where it lacks."""
    taken = set()
    for node in model.graph.node:
        base = node.name or (node.output[0] if node.output else node.op_type)
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        node.name = name
        taken.add(name)


def _set_shape(item: Any, shape: tuple[int, ...]) -> None:  # noqa: ANN401
    sides = item.type.tensor_type.shape
    sides.Clear()
    sides.SetInParent()  # a scalar has a shape too
    for side in shape:
        sides.dim.add().dim_value = int(side)


def _sides(item: Any) -> tuple[int, ...] | None:  # noqa: ANN401
    """The shape of an input or output; None when it is open."""
    kind = item.type.tensor_type
    if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return tuple(int(side.dim_value) for side in kind.shape.dim)


def _feed(model: Model, seed: int) -> dict[str, Array]:
    """Numbers that any input takes; small ones, as they may be rows of a table."""
    from onnx import helper

    generator = np.random.default_rng(seed)
    feed = {}
    for item in model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        numbers = generator.standard_normal(_sides(item) or ())
        feed[item.name] = np.asarray(np.abs(numbers) > 1 if kind.kind in "iub" else numbers, kind)
    return feed


def _drop_unused(model: Model) -> None:
    """Opset imports of domains without a node: a runtime may refuse what it does not know."""
    used = {node.domain for node in onnx_walk.nodes(model)}
    used |= {item.domain for item in model.functions}
    kept = {
        item.domain: item.version
        for item in model.opset_import
        if item.domain in _OWN_DOMAINS or item.domain in used
    }
    del model.opset_import[:]
    for domain, version in sorted(kept.items()):
        model.opset_import.add(domain=domain, version=version)


def _relabelled(model: Model, version: int) -> Model | None:
    """Under another number, if all nodes fit its operators' inputs and attributes."""
    if not all(_fits(node, files.opset(model), version) for node in _own_nodes(model)):
        return None
    made = files.copy(model)
    for part in (made, *made.functions):
        for item in part.opset_import:
            if item.domain in _OWN_DOMAINS:
                item.version = version
    made.ir_version = ir_for(version)
    return made


def _converted(model: Model, version: int) -> Model | None:
    """By onnx's own converter, which does not know all operators."""
    import onnx

    try:
        made = onnx.version_converter.convert_version(model, version)
    except files.errors():
        return None
    made.ir_version = ir_for(version)
    return made


def _changed(model: Model, version: int) -> set[str]:
    """Operators of the model that are not the same ones at another version."""
    own = files.opset(model)
    return {
        node.op_type
        for node in _own_nodes(model)
        if _since(node.op_type, own) != _since(node.op_type, version)
    }


def _since(op_type: str, version: int) -> int | None:
    schema = _schema(op_type, version)
    return None if schema is None else int(schema.since_version)


def _schema(op_type: str, version: int) -> Any:  # noqa: ANN401  OpSchema or None
    from onnx import defs

    try:
        return defs.get_schema(op_type, version, "")
    except defs.SchemaError:
        return None


def _fits(node: Any, own: int, version: int) -> bool:  # noqa: ANN401
    before, after = _schema(node.op_type, own), _schema(node.op_type, version)
    if before is None or after is None or after.deprecated:
        return False
    if node.op_type in _CHANGED_QUIETLY and min(own, version) < _QUIET_CHANGE <= max(own, version):
        return False
    given = {item.name for item in node.attribute}
    defaults = {
        name
        for name, item in before.attributes.items()
        if name not in given and name in after.attributes
        and item.default_value != after.attributes[name].default_value
    }  # fmt: skip
    return (
        not defaults
        and given <= set(after.attributes)
        and after.min_input <= len(node.input) <= after.max_input
        and len(node.output) <= after.max_output
    )


def _own_nodes(model: Model) -> Iterator[Any]:
    return (node for node in onnx_walk.nodes(model) if node.domain in _OWN_DOMAINS)


def _same_answers(model: Model, made: Model, name: str) -> bool:
    try:
        feed = _feed(model, 3)
        before, after = (files.run(files.session(m, name), feed) for m in (model, made))
    except ModelError:
        return False
    return list(before) == list(after) and all(
        np.shape(before[key]) == np.shape(after[key])
        and np.allclose(before[key], after[key], _TOLERANCE, _TOLERANCE, equal_nan=True)
        for key in before
    )
