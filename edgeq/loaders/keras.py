"""Keras models: .h5 and .hdf5 of Keras 2 and 3, .keras."""

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.model import FloatModel, Source
from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.loaders import keras_config, pivot, shapes, tensorflow, tf_to_onnx
from edgeq.ports import Array, Batch, LoadOptions, TensorSpecs

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"
_KINDS = {".h5": "keras-h5", ".hdf5": "keras-h5", ".keras": "keras"}
_MAGIC = {"keras-h5": _HDF5_MAGIC, "keras": _ZIP_MAGIC}
_MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
_MAX_MEMBER_BYTES = 2 << 30
_MAX_CONFIG_BYTES = 64 << 20  # a model of a thousand layers has about 1 MiB


def make() -> "KerasLoader":
    return KerasLoader()


class KerasLoader:
    def recognise(self, path: Path) -> str | None:
        kind = _KINDS.get(path.suffix.lower())
        if kind is None or not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(8)
        if not head.startswith(_MAGIC[kind]):
            really = next((k for k, magic in _MAGIC.items() if head.startswith(magic)), None)
            raise ModelError(
                f"{path} is called {path.suffix}, but its contents are not"
                + (f": they are {really}" if really else ""),
                hint="was the download or the copy cut short?",
            )
        return kind

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
        config = _read_config(source)
        if not options.trust:
            keras_config.refuse_code(config, source.path.name)
        readable = _mended_copy(source, config, folder)
        keras_model = _load(source, readable, config, trust=options.trust)
        pinned, answer = _pin_batch(source, keras_model, options)
        if readable != source.path:
            readable.unlink()
        path = pivot.path_in(folder, options.target)
        tools = {"keras": version("keras"), "tensorflow": tensorflow.version()}
        if options.target == "onnx":
            tools["tf2onnx"] = version("tf2onnx")
        ways = tf_to_onnx.keras_ways(source, pinned, options, path)
        if options.target == "tflite":
            ways = (partial(tensorflow.convert_keras, source, pinned, path),)
        return pivot.first_right(ways, lambda: pivot.finish(source, path, answer, probe, tools))


def open_model(source: Source, folder: Path) -> Any:  # noqa: ANN401  Keras is untyped
    """The Keras model itself, for who does more with it than convert it; no code of it may run.

    ``folder`` takes a copy for a moment.

    Raises:
        ModelError: it cannot be loaded, or brings code.
    """
    config = _read_config(source)
    try:
        keras_config.refuse_code(config, source.path.name)
    except ModelError as error:
        hint = "only models of Keras' own layers can be taken apart: replace it by one of them"
        raise ModelError(error.message, hint=hint) from error
    readable = _mended_copy(source, config, folder)
    try:
        return _load(source, readable, config, trust=False)
    finally:
        if readable != source.path:
            readable.unlink()


def input_names(model: Any) -> list[str]:  # noqa: ANN401  Keras is untyped
    """Names of its pivot's inputs, in the model's order."""
    return _names(model)


def _read_config(source: Source) -> keras_config.Json:
    text = _config_of_zip(source.path) if source.kind == "keras" else _config_of_h5(source.path)
    return keras_config.parse(text, source.path.name)


def _config_of_h5(path: Path) -> bytes | str:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _refuse_odd_h5(file, path.name)
            text = file.attrs.get("model_config")
            is_weights = "layer_names" in file.attrs or "layers" in file or "vars" in file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path.name} is damaged: HDF5 cannot read it", hint="was the download cut short?"
        ) from error
    if isinstance(text, bytes | str):
        return text
    if is_weights:
        raise ModelError(
            f"{path.name} holds only weights, not the model",
            hint="save the whole model: model.save(FILE), not model.save_weights(FILE)",
        )
    raise ModelError(
        f"{path.name} is an HDF5 file, but holds no Keras model",
        hint="save it with model.save(FILE)",
    )


def _refuse_odd_h5(group: Any, name: str, depth: int = 0) -> int:  # noqa: ANN401  h5py is untyped
    """Links out of the file would read other files; sizes are checked before anything is read."""
    import h5py

    total_bytes = 0
    for key in group:
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink) or depth > 64:  # noqa: PLR2004  deeper than any model
            raise ModelError(f"{name} has a link at {key!r}, which no Keras model has")
        item = group[key]
        if isinstance(item, h5py.Group):
            total_bytes += _refuse_odd_h5(item, name, depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ModelError(f"{name} keeps the weights {key!r} in another file")
            total_bytes += item.size * item.dtype.itemsize
        if total_bytes > _MAX_MEMBER_BYTES:
            raise ModelError(f"the weights in {name} are larger than 2 GiB")
    return total_bytes


def _config_of_zip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_odd_members(archive, path.name)
            if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
                raise ModelError(f"config.json in {path.name} is larger than 64 MiB")
            return archive.read("config.json")
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"{path.name} is damaged: it is not a whole zip file",
            hint="was the download or the copy cut short?",
        ) from error


def _refuse_odd_members(archive: zipfile.ZipFile, name: str) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    for member in members:
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if member.filename not in _MEMBERS or is_link or names.count(member.filename) > 1:
            raise ModelError(
                f"{name} holds {member.filename!r}, which does not belong into a .keras file"
            )
        if member.file_size > _MAX_MEMBER_BYTES:
            raise ModelError(f"{member.filename} in {name} is larger than 2 GiB")
    if missing := sorted(_MEMBERS - set(names)):
        raise ModelError(
            f"{name} is no Keras model: it lacks {missing[0]}",
            hint="save it with model.save(FILE.keras)",
        )


def _mended_copy(source: Source, config: keras_config.Json, folder: Path) -> Path:
    """A copy whose config Keras 3 can read; the source itself where nothing needs mending."""
    import h5py

    mended = keras_config.mend(config)
    if source.kind == "keras":
        return _checked_keras(source, mended, folder)
    if mended == config:
        return source.path
    copy = folder / "mended.h5"
    shutil.copyfile(source.path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(mended).encode()
    return copy


def _checked_keras(source: Source, mended: keras_config.Json, folder: Path) -> Path:
    """A .keras of the checked members; its weights are looked at as an .h5 is."""
    import h5py

    copy, weights = folder / "mended.keras", folder / "weights.h5"
    with zipfile.ZipFile(source.path) as before:
        with before.open("model.weights.h5") as packed, weights.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        metadata = before.read("metadata.json")
    try:
        with h5py.File(weights, "r") as file:
            _refuse_odd_h5(file, source.path.name)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"the weights in {source.path.name} are damaged") from error
    with zipfile.ZipFile(copy, "w") as after:
        after.writestr("metadata.json", metadata)
        after.writestr("config.json", json.dumps(mended))
        after.write(weights, "model.weights.h5")
    weights.unlink()
    return copy


def _load(source: Source, path: Path, config: keras_config.Json, *, trust: bool) -> Any:  # noqa: ANN401
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    if trust:
        keras.config.enable_unsafe_deserialization()
    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trust)
    except tensorflow.ERRORS as error:
        name = f"Keras {keras.__version__} cannot load {source.path.name}"
        if foreign := keras_config.foreign_class(config):
            raise ModelError(
                f"{name}: {foreign} is not known to Keras, and its code is no part of the file",
                hint="save it as a SavedModel, which holds the graph instead of the code: "
                "model.export(FOLDER)",
            ) from error
        raise ModelError(
            f"{name}: {tensorflow.reason(error)}",
            hint="save it as a SavedModel with the Keras that made it: model.export(FOLDER)",
        ) from error


def _pin_batch(
    source: Source,
    model: Any,  # noqa: ANN401  Keras is untyped
    options: LoadOptions,
) -> tuple[Any, pivot.Answer]:
    """The model with batch 1 and no open axes, and what gives its source's answers by name."""
    import keras

    if not getattr(model, "inputs", None) or not model.outputs:
        raise ModelError(
            f"{source.path.name} is an empty model: it has no inputs or no outputs",
            hint="was it saved before it was built?",
        )
    given = _structure(model)
    names = {id(tensor): name for name, tensor in zip(_names(model), model.inputs, strict=True)}

    def pinned(tensor: Any) -> Any:  # noqa: ANN401
        name = names[id(tensor)]
        shape = shapes.pin(name, tuple(tensor.shape), options)
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=name)

    try:
        inputs = keras.tree.map_structure(pinned, given)
        wrapped = keras.Model(inputs, model(inputs))
    except tensorflow.ERRORS as error:
        raise ModelError(
            f"{source.path.name} cannot be given a batch of 1: {tensorflow.reason(error)}",
            hint="save it with an open batch: keras.Input(shape)",
        ) from error

    def answer(batch: Mapping[str, Array]) -> dict[str, Array]:
        arrays = keras.tree.map_structure(lambda tensor: batch[names[id(tensor)]], given)
        try:
            outputs = model(arrays, training=False)
        except tensorflow.errors() as error:
            raise ModelError(
                f"TensorFlow cannot run {source.path.name}: {tensorflow.reason(error)}"
            ) from error
        if isinstance(outputs, dict):
            return {name: np.asarray(value) for name, value in outputs.items()}
        flat = keras.tree.flatten(outputs)
        return {f"output_{i}": np.asarray(value) for i, value in enumerate(flat)}

    return wrapped, answer


def _structure(model: Any) -> Any:  # noqa: ANN401  Keras is untyped
    """The inputs as the model takes them: a tensor, or a list or dict of them."""
    try:
        return model.input
    except (ValueError, AttributeError):  # a Sequential that was never called
        return model.inputs[0] if len(model.inputs) == 1 else model.inputs


def _names(model: Any) -> list[str]:  # noqa: ANN401  Keras is untyped
    names = [tensor.name.split(":")[0].replace("/", "_") for tensor in model.inputs]
    unique = len(set(names)) == len(names)
    return names if unique else [f"{name}_{i}" for i, name in enumerate(names)]
