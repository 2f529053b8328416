"""Where a training keeps its state between runs: a folder by the content of all it depends on."""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from edgeq.errors import HostError
from edgeq.places import Places

_FOLDER = "training"
_LOCK = "lock"
_KEEP_S = 30 * 24 * 3600


@contextlib.contextmanager
def training_state(key: str, places: Places) -> Iterator[Path]:
    """The folder of one training, which nobody else uses meanwhile; old ones go.

    Raises:
        HostError: another edgeq trains the same.
    """
    root = places.cache / _FOLDER
    folder = root / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HostError(
                    "another edgeq trains this model on this data",
                    hint="wait for it; this command then goes on from where it ended",
                ) from error
            _prune(root, folder)
            yield folder
    except OSError as error:
        raise HostError(f"cannot write {folder}: {error.strerror}") from error


def _prune(root: Path, own: Path) -> None:
    """Remove what nobody went on with for 30 days."""
    for folder in root.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if folder != own and time.time() - folder.stat().st_mtime > _KEEP_S:
                shutil.rmtree(folder, ignore_errors=True)
