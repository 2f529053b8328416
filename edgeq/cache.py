"""What edgeq made before, by content: pivots, samples, artifacts, quality figures.

An entry is a folder named by the hash of everything it was made from. It appears by one rename, so
it is whole or not there; its files are compared with their hashes whenever it is used.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import edgeq
from edgeq import digest
from edgeq.errors import HostError

_INDEX = "entry.json"
_FACTS = "facts.json"
_STAGING = ".making-"
_FORMAT = 1  # of what the cache holds; raise it when a result changes its form or meaning
_TOOLS = (
    "tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy",
    "onnx", "onnxruntime", "tf2onnx", "pillow",
)  # fmt: skip
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR}
)
_KEEP_S = 30 * 24 * 3600
_UNFINISHED_S = 24 * 3600

ValueT = TypeVar("ValueT")


def key_of(parts: Mapping[str, object]) -> str:
    """A key for what is made from ``parts``: JSON values that name all inputs and tool versions."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, object]:
    """What makes any step give another result, beside its input: parts of every key."""
    return {"edgeq": edgeq.__version__, "format": _FORMAT, "tools": [_version(n) for n in _TOOLS]}


def write(value: object, folder: Path) -> None:
    """Keep a dataclass in an entry."""
    from pydantic import TypeAdapter

    (folder / _FACTS).write_bytes(TypeAdapter(type(value)).dump_json(value))


def read(kind: type[ValueT], folder: Path) -> ValueT:
    """The dataclass that ``write`` put there."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_json((folder / _FACTS).read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """``cached``: it was there already."""

    folder: Path
    cached: bool


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder of all entries; need not exist. Safe for several edgeq at once."""

    root: Path

    def entry(self, kind: str, parts: Mapping[str, object], make: Callable[[Path], None]) -> Entry:
        """The entry made from ``parts``; ``make`` fills an empty folder if there is none.

        Raises:
            HostError: the cache cannot be written.
        """
        final = self.root / kind / key_of(parts)
        if _is_whole(final):
            _touch(final)
            return Entry(folder=final, cached=True)
        with _host_errors(self.root), self._staging(kind) as staging:
            make(staging)
            _seal(staging)
            _publish(staging, final)
        return Entry(folder=final, cached=False)

    def prune(self, now_s: float | None = None) -> int:
        """Remove entries unused for 30 days and unfinished ones of yesterday; how many.

        What others keep in the same folder stays.
        """
        now_s = time.time() if now_s is None else now_s
        removed = 0
        finished = (index.parent for index in self.root.glob(f"*/*/{_INDEX}"))
        for folder in (*finished, *self.root.glob(f"*/{_STAGING}*")):
            keep_s = _UNFINISHED_S if folder.name.startswith(_STAGING) else _KEEP_S
            with contextlib.suppress(FileNotFoundError):
                if now_s - folder.stat().st_mtime > keep_s:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _staging(self, kind: str) -> Iterator[Path]:
        parent = self.root / kind
        parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_whole(folder: Path) -> bool:
    try:
        index = json.loads((folder / _INDEX).read_bytes())
        return all(
            (folder / name).stat().st_size == size and digest.of_file(folder / name) == sha256
            for name, (size, sha256) in index.items()
        )
    except (OSError, ValueError):
        return False


def _touch(folder: Path) -> None:
    # its age counts for prune; on a cache that is read only it does not matter
    with contextlib.suppress(OSError):
        os.utime(folder)


def _seal(staging: Path) -> None:
    """Write the index, and bring everything to the disk before the rename can get there."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    index = {
        path.relative_to(staging).as_posix(): (path.stat().st_size, digest.of_file(path))
        for path in files
    }
    (staging / _INDEX).write_text(json.dumps(index))
    for path in (*files, staging / _INDEX):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _publish(staging: Path, final: Path) -> None:
    try:
        staging.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if _is_whole(final):  # another edgeq made the same
            return
        damaged = Path(tempfile.mkdtemp(prefix=_STAGING, dir=final.parent)) / "damaged"
        with contextlib.suppress(FileNotFoundError):
            final.rename(damaged)
        shutil.rmtree(damaged.parent, ignore_errors=True)
        staging.rename(final)


@contextlib.contextmanager
def _host_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:  # a bug is no full disk
            raise
        hint = ""
        if error.errno == errno.ENOSPC:
            hint = f"free some space, or delete {root}"
        raise HostError(f"cannot write the cache {root}: {error.strerror}", hint=hint) from error
