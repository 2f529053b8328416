"""Folders named by the content they are made from: made once, whole or not at all."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_KEY_DIGITS = 12
_BEGAN = time.monotonic()


def home() -> Path:
    """Where images, templates and running machines lie: ``EDGEQ_LAB``, else the user's cache."""
    named = os.environ.get("EDGEQ_LAB")
    return (Path(named) if named else Path.home() / ".cache" / "edgeq-lab").absolute()


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{time.monotonic() - _BEGAN:6.1f} s  {text}\n")
    sys.stderr.flush()


def content_key(*parts: str | Path) -> str:
    """A name for what is made from these texts and these files or folders of files."""
    digest = hashlib.sha256()
    for part in parts:
        for text in _texts(part):
            digest.update(len(text).to_bytes(8, "big"))
            digest.update(text)
    return digest.hexdigest()[:_KEY_DIGITS]


def _texts(part: str | Path) -> Iterator[bytes]:
    if isinstance(part, str):
        yield part.encode()
    elif part.is_dir():
        for path in sorted(part.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(part).as_posix().encode()
                yield path.read_bytes()
    else:
        yield part.name.encode()
        yield part.read_bytes()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time holds ``path``; it is let go when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, after ``make(draft)`` if it is not there yet.

    The draft becomes the folder by one rename, so an interrupted build leaves nothing that a later
    one could take for whole.
    """
    if folder.is_dir():
        return folder
    with locked(folder.parent / "locks" / folder.name):
        if folder.is_dir():
            return folder
        for leftover in folder.parent.glob(f"{folder.name}.part-*"):
            _end(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
        draft.chmod(0o755)
        try:
            make(draft)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _end(leftover: Path) -> None:
    """End the machine that a killed build left running in its draft."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((leftover / "pid").read_text())
        if leftover.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
