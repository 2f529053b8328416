"""Runtimes that were seen to run here, so that a second deploy need not try them again.

Only those that edgeq sent: their folders are named by what is in them. If one fails later, in the
replay of the golden set at the latest, it is forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

from edgeq import __version__, wire
from edgeq.agent.durable import Disk

FOLDER = "proved"


def find(root: Path, runtime: wire.Runtime) -> wire.Probed | None:
    """What it said of itself when it was tried; None: it is to be tried."""
    try:
        message = wire.decode(_file(root, runtime).read_bytes())
    except (OSError, wire.WireError):
        return None
    return message if isinstance(message, wire.Probed) and message.ok else None


def keep(root: Path, runtime: wire.Runtime, probed: wire.Probed, disk: Disk) -> None:
    """Note that it runs; without room for the note it is tried again."""
    if probed.ok and runtime.paths:
        path = _file(root, runtime)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            disk.write_json(path, json.loads(wire.encode(probed)))


def forget(root: Path, runtime: wire.Runtime) -> None:
    """It did not run."""
    with contextlib.suppress(OSError):
        _file(root, runtime).unlink()


def _file(root: Path, runtime: wire.Runtime) -> Path:
    """Another Python, C library, kernel or edgeq is another matter."""
    system = (*os.uname()[2:], _libc(), sys.executable, sys.version, __version__)
    name = json.dumps([runtime.kind, runtime.paths, runtime.providers, system])
    return root / FOLDER / (hashlib.sha256(name.encode()).hexdigest()[:32] + ".json")


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return None  # another library than glibc: it has no such name
