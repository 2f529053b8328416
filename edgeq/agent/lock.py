"""One host at a time may change the device."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from edgeq.agent.ports import FailureError

_WORDS_S = 0.1  # whoever has just taken it is about to write who that is


class DeviceLock:
    """``<root>/lock``: held by flock, so the dead hold nothing; it says by whom."""

    def __init__(self, root: Path) -> None:
        self._path = root / "lock"
        self._descriptor = -1

    @property
    def held(self) -> bool:
        return self._descriptor >= 0

    def take(self, holder: str) -> None:
        """Take it.

        Raises:
            FailureError: busy, with the holder's words.
        """
        if self.held:
            return
        descriptor = os.open(str(self._path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            time.sleep(_WORDS_S)
            words = os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise FailureError("busy", words or "someone else") from error
        self._descriptor = descriptor
        now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        words = "".join(char if char.isprintable() else "?" for char in holder[:300])
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # the disk may be full; the lock holds without words
            os.pwrite(descriptor, f"{words} since {now}\n".encode("utf-8", "replace"), 0)

    def release(self) -> None:
        if self.held:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1
