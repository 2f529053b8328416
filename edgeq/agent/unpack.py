"""A zip of a runtime's files, checked and unpacked as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import time
import typing
import zipfile
from pathlib import Path

from edgeq import wire
from edgeq.agent.durable import Disk
from edgeq.agent.files import require_space
from edgeq.agent.layout import UNPACKING
from edgeq.agent.ports import FailureError, from_os_error

_MOST_BYTES = 2 << 30
_MOST_MEMBERS = 100_000
_LONGEST_BYTES = 255  # linux/limits.h
_PROGRESS_S = 0.5

OnProgress = typing.Callable[[wire.Message], None]


def unpack(archive: Path, into: Path, disk: Disk, on_progress: OnProgress) -> None:
    """Unpack ``archive`` to the new folder ``into`` and delete it; a folder that is there is whole.

    Raises:
        FailureError: missing, refused, space.
    """
    if not archive.is_file():
        raise FailureError("missing", f"{archive.name}: not there")
    if not into.is_dir():
        disk.mkdir(into.parent)
        fresh = into.with_name(UNPACKING + os.urandom(8).hex())
        fresh.mkdir(mode=0o700)
        try:
            _extract(archive, fresh, on_progress)
            disk.sync_all()  # hundreds of small files: a sync of each would take far longer
            disk.rename(fresh, into)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise FailureError("refused", f"{archive.name}: {error}") from error
        except (OSError, FailureError) as error:
            failure = error if isinstance(error, FailureError) else from_os_error(error)
            if failure.kind == "space":  # then it is not to take any
                disk.unlink(archive)
            raise
        finally:
            shutil.rmtree(str(fresh), ignore_errors=True)
    disk.unlink(archive)


def _extract(archive: Path, folder: Path, on_progress: OnProgress) -> None:
    with zipfile.ZipFile(str(archive)) as source:
        members = _checked(source.infolist())
        require_space(folder, sum(member.file_size for member in members))
        told_s = time.monotonic()
        for count, member in enumerate(members):
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as data, target.open("xb") as file:
                shutil.copyfileobj(data, file, 1 << 20)
            if (member.external_attr >> 16) & 0o111:
                target.chmod(0o755)
            if time.monotonic() - told_s > _PROGRESS_S:
                told_s = time.monotonic()
                on_progress(wire.Progress("unpack", count + 1, len(members)))


def _checked(members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The members, if each is a plain file or folder below, and all are of a sane size."""
    seen: set[str] = set()
    for member in members:
        name = member.filename.rstrip("/")
        # orig_filename: zipfile cuts names at a NUL and turns backslashes, silently
        plain = member.orig_filename == member.filename and "\\" not in name
        parts = name.split("/")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not plain or kind not in {0, stat.S_IFREG, stat.S_IFDIR} or _leaves(parts):
            raise FailureError("refused", f"a member that is no plain file: {member.filename!r}")
        if name in seen:
            raise FailureError("refused", f"a member that comes twice: {member.filename!r}")
        seen.add(name)
    if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _MOST_BYTES:
        raise FailureError("refused", f"{len(members)} members, or too many bytes")
    return members


def _leaves(parts: typing.Sequence[str]) -> bool:
    return any(part in {"", ".", ".."} or len(os.fsencode(part)) > _LONGEST_BYTES for part in parts)
