"""The bundle: a zip of fixed layout that holds a release and its proof.

The same contents give the same bytes. A reader takes a bundle as input from outside: names, kinds,
sizes and hashes are checked before anything else looks at it.
"""

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeq.core.profile import Budgets, Format, Precision
from edgeq.core.searched import SearchSection
from edgeq.errors import BundleError

MANIFEST = "manifest.json"
GOLDEN_INPUTS = "golden_inputs.npz"
GOLDEN_OUTPUTS = "golden_outputs.npz"
PREPROCESSING = "preprocessing.json"
LABELS = "labels.txt"
_MODELS = frozenset({"model.tflite", "model.onnx"})
REQUIRED = frozenset({GOLDEN_INPUTS, GOLDEN_OUTPUTS, PREPROCESSING})
ALLOWED = REQUIRED | {LABELS} | _MODELS
MAX_BYTES = 2 << 30
MAX_MANIFEST_BYTES = 4 << 20
# A zip cannot hold an earlier time; a fixed one keeps the bytes equal.
_EPOCH = (1980, 1, 1, 0, 0, 0)
# zipfile answers damaged, encrypted and exotic archives with any of these.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)

_RELEASE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
ReleaseName = Annotated[str, Field(pattern=_RELEASE_NAME)]
Share = Annotated[float, Field(ge=0, le=1)]
_ROUNDING = 1e-6
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Part):
    """An input or output; ``scale`` and ``zero_point`` are null where it is not quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class FileEntry(_Part):
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class SourceEntry(_Part):
    """The user's model; its path is not kept."""

    name: str
    kind: str
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class CalibrationEntry(_Part):
    sha256: Sha256
    samples: Annotated[int, Field(ge=1)]


class QualityEntry(_Part):
    """Artifact against float, on the host. ``origin``: evaluation, calibration or random inputs."""

    samples: Annotated[int, Field(ge=0)]
    origin: Literal["evaluation", "calibration", "random"]
    sqnr_db: float | None = None
    cosine: Annotated[float, Field(ge=-1.001, le=1.001)] | None = None
    top1_agreement: Share | None = None
    float_accuracy: Share | None = None
    artifact_accuracy: Share | None = None
    accuracy_drop: Annotated[float, Field(ge=-1, le=1)] | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        before, after, drop = self.float_accuracy, self.artifact_accuracy, self.accuracy_drop
        if before is None or after is None or drop is None:
            if (before, after, drop) != (None, None, None):
                raise ValueError("accuracy is known in part only")
        elif abs(before - after - drop) > _ROUNDING:
            raise ValueError("accuracy_drop is not the difference of the accuracies")
        return self


class Manifest(_Part):
    """``manifest.json``. ``version`` counts the releases of one name upwards.

    ``search``: how the artifact was chosen, with ``--precision auto``.
    """

    schema_: Annotated[Literal["edgeq.manifest/1"], Field(alias="schema")] = "edgeq.manifest/1"
    name: ReleaseName
    version: Annotated[int, Field(ge=1)]
    profile: str
    format: Format
    precision: Precision
    requested_precision: Precision
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    files: dict[str, FileEntry]
    source: SourceEntry
    calibration: CalibrationEntry | None = None
    tools: dict[str, str]
    quality: QualityEntry
    search: SearchSection | None = None
    budgets: Budgets
    warnings: tuple[str, ...] = ()

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    @property
    def model_file(self) -> str:
        """Name of the artifact's file."""
        return model_file(self.format)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked bundle. ``files`` holds everything but the manifest, by name."""

    manifest: Manifest
    manifest_bytes: bytes
    files: Mapping[str, bytes]

    @property
    def release(self) -> str:
        """Name of the release's folder on a device: the version and the manifest's hash."""
        return f"{self.manifest.version}-{hashlib.sha256(self.manifest_bytes).hexdigest()[:16]}"

    @property
    def contents(self) -> dict[str, bytes]:
        return {MANIFEST: self.manifest_bytes, **self.files}


def is_release_name(text: str) -> bool:
    """Whether it can name a release, and so a folder on any device."""
    return re.fullmatch(_RELEASE_NAME.strip("^$"), text) is not None


def model_file(format_: Format) -> str:
    """Name of the artifact's file in a bundle."""
    return f"model.{format_}"


def describe(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Hash and size of each file, in the order of their names."""
    return {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in sorted(files.items())
    }


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Put a bundle together; ``manifest.files`` must describe ``files``."""
    fields = manifest.model_dump(mode="json", by_alias=True)
    text = json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return Bundle(manifest=manifest, manifest_bytes=text.encode() + b"\n", files=dict(files))


def pack(bundle: Bundle) -> bytes:
    """The bundle's bytes; equal for equal contents."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted(bundle.contents.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, compresslevel=6)
    return out.getvalue()


def unpack(data: bytes, origin: str) -> Bundle:
    """Read and check a bundle.

    Raises:
        BundleError: it is damaged, or holds what a bundle must not.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _entries(archive, origin)
            manifest_bytes = archive.read(entries.pop(MANIFEST))
            manifest = _manifest(manifest_bytes, origin)
            if lacking := sorted(set(manifest.files) - set(entries)):
                raise _damaged(origin, f"{lacking[0]} is missing")
            if set(entries) != set(manifest.files):
                raise _damaged(origin, "its files are not those its manifest names")
            files = {name: archive.read(entry) for name, entry in entries.items()}
    except _ZIP_ERRORS as error:
        raise _damaged(origin, str(error)) from error
    for name, entry in manifest.files.items():
        if describe({name: files[name]})[name] != entry:
            raise _damaged(origin, f"{name} does not have the hash its manifest gives")
    return Bundle(manifest=manifest, manifest_bytes=manifest_bytes, files=files)


def _entries(archive: zipfile.ZipFile, origin: str) -> dict[str, zipfile.ZipInfo]:
    """Names, kinds and sizes first: a zip may name a file twice, lie about it, or reach outside."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise _damaged(origin, "a file stands in it twice")
    if stray := sorted(set(names) - ALLOWED - {MANIFEST}):
        raise _damaged(origin, f"{stray[0]!r} does not belong in a bundle")
    if lacking := sorted((REQUIRED | {MANIFEST}) - set(names)):
        raise _damaged(origin, f"{lacking[0]} is missing")
    for info in infos:
        if info.external_attr >> 28 not in (0, 0o10):
            raise _damaged(origin, f"{info.filename} is not a plain file")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise _damaged(origin, f"it unpacks to more than {MAX_BYTES >> 20} MiB")
    entries = dict(zip(names, infos, strict=True))
    if entries[MANIFEST].file_size > MAX_MANIFEST_BYTES:
        raise _damaged(origin, "its manifest is too large")
    return entries


def _manifest(data: bytes, origin: str) -> Manifest:
    try:
        fields = json.loads(data, object_pairs_hook=_no_twins)
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(origin, f"manifest.json: {where}: {first['msg']}") from error
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(origin, f"manifest.json: {error}") from error
    allowed = REQUIRED | {LABELS, manifest.model_file}
    required = REQUIRED | {manifest.model_file}
    if not required <= set(manifest.files) <= allowed:
        raise _damaged(origin, "its manifest does not name the files of a bundle")
    return manifest


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _damaged(origin: str, what: str) -> BundleError:
    return BundleError(
        f"{origin} is not a good bundle: {what}",
        hint="build it again: edgeq convert MODEL --device NAME -o FILE.edgeq",
    )
