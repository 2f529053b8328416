"""A program whose output is a sensor's reading."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
import typing

# Five readings a second of a slow source: 50 in a window of 10 s.
SLOW_HZ = 5.0
_LIMIT_S = 2.0
_MOST_BYTES = 64 << 10


class Command:
    """Runs a program once a reading; empty output where it fails, hangs or is gone."""

    def __init__(self, argv: typing.Sequence[str], most_hz: float = SLOW_HZ) -> None:
        self._argv = list(argv)
        self.cpu_s = 0.0
        self.most_hz = most_hz

    def __call__(self) -> bytes:
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return b""
        with process:
            assert process.stdout is not None  # noqa: S101  # as asked for above
            output = _read(process.stdout.fileno())
            if output is None:
                process.kill()
            # Not process.wait, which does not say what the program cost.
            with contextlib.suppress(ChildProcessError):
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
                self.cpu_s += usage.ru_utime + usage.ru_stime
        return output if output is not None and process.returncode == 0 else b""


def _read(descriptor: int) -> bytes | None:
    """Everything until the end; None when that takes too long."""
    end_s = time.monotonic() + _LIMIT_S
    output = b""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while len(output) < _MOST_BYTES:
        left_s = end_s - time.monotonic()
        if left_s <= 0 or not poller.poll(left_s * 1000.0):
            return None
        piece = os.read(descriptor, _MOST_BYTES)
        if not piece:
            return output
        output += piece
    return None
