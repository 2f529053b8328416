"""The user's files: which loader or reader takes them, and their hashes."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgeq import digest, registry
from edgeq.core import project
from edgeq.core.model import Source
from edgeq.core.profile import Format
from edgeq.core.project import Input, Project
from edgeq.datasets import rows
from edgeq.errors import ConfigError, DataError, ModelError, RejectedError
from edgeq.ports import Dataset, Loader

PROJECT_FILE = "edgeq.toml"
MAX_MODEL_BYTES = 2 << 30
_MAX_PROJECT_BYTES = 1 << 20
_MAX_MODEL_FILES = 10_000
_NOT_YET = {
    ".safetensors": "safetensors",
    ".pb": "a bare TensorFlow graph",
    ".ckpt": "a TensorFlow checkpoint",
    ".pkl": "a pickle",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """``loader``: its name in the registry."""

    source: Source
    loader: str

    @property
    def shapeless(self) -> bool:
        """Whether such a file says nothing of its inputs' shapes."""
        return self.source.kind == "torchscript"

    def environments(self, target: Format) -> tuple[str, ...]:
        """Names of the environments that loading it needs, see ``edgeq.environments``."""
        loader = cast("Loader", registry.find("loaders", self.loader))
        return loader.environments(self.source.kind, target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """``reader``: its name in the registry. ``sha256``: of names and contents."""

    path: Path
    reader: str
    sha256: str


def read_project(model: Path) -> Project:
    """The ``edgeq.toml`` beside the model; the defaults when there is none.

    Raises:
        ConfigError: it is wrong.
    """
    path = model.absolute().parent / PROJECT_FILE
    try:
        if path.stat().st_size > _MAX_PROJECT_BYTES:
            raise ConfigError(f"{path} is too large for a project file")
        return project.parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return Project()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def identify_model(path: Path) -> Model:
    """Which loader takes a model, by its name and first bytes; nothing of it is run.

    Raises:
        ModelError: it is missing, empty, larger than 2 GiB, or no loader takes it.
    """
    _refuse_odd_name(path, ModelError)
    try:
        files = _files(path)
        size_bytes = _model_size(path, files)
        for name in registry.names("loaders"):
            kind = cast("Loader", registry.find("loaders", name)).recognise(path)
            if kind:
                sha256 = digest.of_files(path, files) if path.is_dir() else digest.of_file(path)
                source = Source(
                    path=path, name=path.stem, kind=kind, sha256=sha256, size_bytes=size_bytes
                )
                return Model(source=source, loader=name)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    known = (
        "edgeq takes .h5, .hdf5, .keras, a SavedModel folder, .onnx, PyTorch's .pt2 and "
        "TorchScript's .pt, and float .tflite"
    )
    if other := _NOT_YET.get(path.suffix.lower()):
        raise ModelError(f"{path} is {other}, which edgeq does not take", hint=known)
    raise ModelError(f"{path} is no kind of model that edgeq knows", hint=known)


def identify_data(path: Path) -> Data:
    """Which reader takes calibration or evaluation data.

    Raises:
        DataError: it is missing, or no reader takes it.
    """
    known = "data is a folder of images, an .npy or an .npz file"
    _refuse_odd_name(path, DataError)
    if not path.exists():
        raise DataError(f"there is no {path}", hint=known)
    try:
        for name in registry.names("datasets"):
            if cast("Dataset", registry.find("datasets", name)).recognises(path):
                sha256 = _folder_hash(path) if path.is_dir() else digest.of_file(path)
                return Data(path=path, reader=name, sha256=sha256)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    raise DataError(f"{path} is no kind of data that edgeq knows", hint=known)


def sample_shapes(data: Data, settings: Input) -> Mapping[str, tuple[int, ...]]:
    """Shapes of one sample by array name, for a model that says none; only headers are read.

    The name is empty where an array has none. Images of a known size have PyTorch's order:
    (channels, height, width).

    Raises:
        DataError: the file cannot be read.
    """
    if data.path.is_dir():
        channels = 1 if settings.color == "gray" else 3
        return {"": (channels, *settings.size)} if settings.size else {}
    try:
        if data.path.suffix.lower() == ".npy":
            with data.path.open("rb") as stream:
                return {"": rows.read_header(stream, str(data.path)).shape[1:]}
        shapes = {}
        with zipfile.ZipFile(data.path) as archive:
            for name in archive.namelist():
                with archive.open(name) as stream:
                    header = rows.read_header(stream, f"{name} in {data.path}")
                shapes[name.removesuffix(".npy")] = header.shape[1:]
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {data.path}: {error}") from error
    return shapes


def _refuse_odd_name(path: Path, kind: type[RejectedError]) -> None:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise kind(f"the name {shown} is not UTF-8", hint="rename it") from error


def _folder_hash(path: Path) -> str:
    """Of files and of the names of class folders, as an empty one has a number too."""
    folders = sorted(
        item.name for item in path.iterdir() if item.is_dir() and not item.name.startswith(".")
    )
    names = "/".join([digest.of_files(path, _files(path)), *folders])
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()


def _files(path: Path) -> list[Path]:
    """Of a folder; hidden ones are no part of it."""
    return sorted(
        item
        for item in path.rglob("*")
        if item.is_file() and not any(part.startswith(".") for part in item.relative_to(path).parts)
    )


def _model_size(path: Path, files: list[Path]) -> int:
    if not path.exists():
        raise ModelError(f"there is no {path}")
    if path.is_dir() and len(files) > _MAX_MODEL_FILES:
        raise ModelError(
            f"{path} holds {len(files)} files, which no SavedModel does",
            hint="name the folder that holds saved_model.pb",
        )
    size_bytes = sum(f.stat().st_size for f in files) if path.is_dir() else path.stat().st_size
    if size_bytes == 0:
        raise ModelError(f"{path} is empty", hint="was the download or the copy cut short?")
    if size_bytes > MAX_MODEL_BYTES:
        raise ModelError(
            f"{path} has {size_bytes / (1 << 30):.1f} GiB; edgeq takes models up to 2 GiB",
            hint="a .tflite file cannot be larger",
        )
    return size_bytes
