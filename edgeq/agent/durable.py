"""Every change of the device's disk goes through here, so that a test can stop it at each one.

``EDGEQ_FAULT_AT=N`` kills the agent with SIGKILL at its Nth change: a write is torn in half first,
the others have not happened yet.
"""

from __future__ import annotations

import json
import os
import signal
import typing
from pathlib import Path


class Disk:
    """Writes, renames and links. ``fault_at`` 0: never cut."""

    def __init__(self, fault_at: int = 0) -> None:
        self._fault_at = fault_at
        self._changes = 0

    def write(self, descriptor: int, data: memoryview) -> None:
        """Write all of it."""
        if self._is_last():
            os.write(descriptor, data[: len(data) // 2])
            _die()
        while data:
            data = data[os.write(descriptor, data) :]

    def sync(self, descriptor: int) -> None:
        self._step()
        os.fsync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder last."""
        descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self) -> None:
        self._step()
        os.sync()

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` at once, and make it last."""
        self._step()
        source.replace(target)
        self.sync_folder(target.parent)
        if source.parent != target.parent:
            self.sync_folder(source.parent)

    def link(self, source: Path, target: Path) -> None:
        """Hard-link.

        Raises:
            OSError: the file system or its policy knows no hard links (Android).
        """
        self._step()
        os.link(str(source), str(target))

    def symlink(self, text: str, link: Path) -> None:
        """Make or replace a symbolic link at once, and make it last."""
        fresh = link.with_name(".link-" + os.urandom(4).hex())
        self._step()
        fresh.symlink_to(text)
        self.rename(fresh, link)

    def unlink(self, path: Path) -> None:
        self._step()
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """Make a folder of the user's own, and its parents."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            self._step()
            folder.mkdir(mode=0o700, exist_ok=True)
            self.sync_folder(folder.parent)

    def write_json(self, path: Path, fields: typing.Mapping[str, object]) -> None:
        """Replace a small file at once."""
        fresh = path.with_name(".state-" + os.urandom(4).hex())
        descriptor = os.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self.write(descriptor, memoryview(json.dumps(fields).encode()))
            self.sync(descriptor)
        except OSError:
            fresh.unlink()
            raise
        finally:
            os.close(descriptor)
        self.rename(fresh, path)

    def _step(self) -> None:
        if self._is_last():
            _die()

    def _is_last(self) -> bool:
        self._changes += 1
        return self._changes == self._fault_at


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
