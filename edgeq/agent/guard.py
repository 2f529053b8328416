"""A process that puts frequencies back, whatever becomes of the agent, the session or the link.

It has a session of its own and nothing of the agent's but two pipes. A line on its standard input,
or its end, means: put everything back as ``settings`` keeps it. It answers ``restored``, or what it
could not do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path

from edgeq.agent import settings

LOCK = "frequency.lock"


def main(folder: Path) -> int:
    """Wait for the end of the run, then restore; 0 when all is as it was."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    lock = take(folder)
    if lock < 0:
        _say("busy")
        return 1
    _say("ready")
    os.read(0, 1)
    left = settings.restore(folder)
    os.close(lock)
    _say(" ".join(left) if left else "restored")
    return 1 if left else 0


def take(folder: Path) -> int:
    """A descriptor that holds the lock over the frequencies, -1 if someone else does."""
    descriptor = os.open(str(folder / LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def recover(folder: Path) -> tuple[str, ...]:
    """Put back what a run left behind whose guard died as well; sentences for the user."""
    if not (folder / settings.STATE).exists():
        return ()
    lock = take(folder)
    if lock < 0:
        return ()  # the run is still going on
    try:
        left = settings.restore(folder)
    finally:
        os.close(lock)
    if left:
        return tuple(f"an earlier run's frequency could not be put back: {one}" for one in left)
    return ("the CPU frequencies that an interrupted run had pinned were put back",)


def _say(words: str) -> None:
    with contextlib.suppress(OSError):  # the agent is gone: nobody listens
        os.write(1, words.encode() + b"\n")
