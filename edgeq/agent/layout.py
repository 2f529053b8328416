"""Where things are under the agent's folder, and which paths a request may name."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from edgeq.agent.ports import FailureError

UNPACKING = ".unpack-"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[A-Za-z0-9._+@-]{1,160}")


@dataclass(frozen=True)
class Layout:
    """The folders of one session. ``scratch`` is this session's own and goes with it."""

    root: Path
    scratch: Path

    def inside(self, path: str) -> Path:
        """A relative path under the root; ``scratch/…`` is the session's own folder.

        Raises:
            FailureError: refused, when it is absolute, has odd parts, or leaves the root through a
            link.
        """
        parts = path.split("/")
        if not all(_PART.fullmatch(part) and part not in {".", ".."} for part in parts):
            raise FailureError("refused", f"not a path under the agent's folder: {path!r}")
        if parts[0] == "scratch":
            joined = self.scratch.joinpath(*parts[1:])
        else:
            joined = self.root.joinpath(*parts)
        real = os.path.realpath(str(joined))
        if real != str(self.root) and not real.startswith(str(self.root) + "/"):
            raise FailureError("refused", f"{path!r} leads out of the agent's folder")
        return joined

    def readable(self, path: str) -> Path:
        """The same, and ``/…`` is taken as it is.

        Raises:
            FailureError: refused, as by ``inside``.
        """
        if not path.startswith("/"):
            return self.inside(path)
        try:
            encoded = os.fsencode(path)
        except UnicodeEncodeError as error:
            raise FailureError("refused", f"not a path: {path!r}") from error
        if b"\0" in encoded:
            raise FailureError("refused", f"not a path: {path!r}")
        return Path(path)


def require_name(name: str) -> str:
    """A plain name of a model, release or file.

    Raises:
        FailureError: refused.
    """
    if not NAME.fullmatch(name):
        raise FailureError("refused", f"not a name of letters, digits, '.', '_', '-': {name!r}")
    return name


def require_content(size_bytes: int, sha256: str) -> None:
    """A size and a hash that can be.

    Raises:
        FailureError: refused.
    """
    if size_bytes < 0 or not _SHA256.fullmatch(sha256):
        raise FailureError("refused", f"not a size and SHA-256: {size_bytes} {sha256!r}")


def find_root() -> Path:
    """``$EDGEQ_ROOT``, else ``~/.edgeq``; made if need be, for this user only."""
    named = os.environ.get("EDGEQ_ROOT")
    root = Path(named) if named else Path.home() / ".edgeq"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_mode & 0o077:
        root.chmod(0o700)
    return Path(os.path.realpath(str(root)))


class Scratch:
    """A folder for one session, removed at its end; a dead session's is told by its free lock."""

    def __init__(self, root: Path) -> None:
        (root / "scratch").mkdir(mode=0o700, exist_ok=True)
        self.folder = root / "scratch" / f"{os.getpid()}-{os.urandom(4).hex()}"
        self.folder.mkdir(mode=0o700)
        self._descriptor = os.open(str(self.folder), os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        shutil.rmtree(str(self.folder), ignore_errors=True)
        os.close(self._descriptor)


def remove_dead_scratch(root: Path) -> None:
    """Remove the scratch folders whose session is gone."""
    for folder in (root / "scratch").iterdir():
        try:
            descriptor = os.open(str(folder), os.O_RDONLY)
        except FileNotFoundError:
            continue  # its session has just ended
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(str(folder), ignore_errors=True)
        finally:
            os.close(descriptor)


def remove_old(folder: Path, marks: tuple[str, ...], older_than_s: float) -> None:
    """Remove what an interrupted transfer left there, once nobody will come back for it."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        old = time.time() - path.lstat().st_mtime > older_than_s
        if old and any(mark in path.name for mark in marks):
            if path.is_dir():
                shutil.rmtree(str(path))
            else:
                path.unlink()


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    stats = os.statvfs(str(folder))
    return stats.f_bavail * stats.f_frsize
