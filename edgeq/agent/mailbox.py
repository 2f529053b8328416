"""The Raspberry Pi firmware's answers without a process for each: a message to ``/dev/vcio``.

The message is that of vcgencmd itself (github.com/raspberrypi/utils): a property list with one tag,
"general command", whose text the answer takes the place of.
"""

from __future__ import annotations

import fcntl
import os
import struct
import typing
from pathlib import Path

from edgeq.agent.commands import SLOW_HZ

_TAG = 0x00030080
_TEXT_BYTES = 1024
_HEAD = struct.Struct("=6I")  # size, code, tag, length of the text, length of the request, error
_SUCCESS = 0x80000000
# linux/ioctl.h: _IOWR(100, 0, char *)
_REQUEST = 3 << 30 | struct.calcsize("P") << 16 | 100 << 8

Ioctl = typing.Callable[[int, int, bytearray, bool], object]


class Mailbox:
    """Asks one thing again and again; empty where the firmware does not answer."""

    cpu_s = 0.0
    most_hz = SLOW_HZ

    def __init__(
        self, command: str, device: Path = Path("/dev/vcio"), ioctl: Ioctl = fcntl.ioctl
    ) -> None:
        text = command.encode().ljust(_TEXT_BYTES, b"\0")
        size = _HEAD.size + _TEXT_BYTES + 4
        self._question = _HEAD.pack(size, 0, _TAG, _TEXT_BYTES, 0, 0) + text + bytes(4)
        self._device = device
        self._ioctl = ioctl
        self._descriptor: int | None = None

    def __call__(self) -> bytes:
        message = bytearray(self._question)
        try:
            if self._descriptor is None:
                self._descriptor = os.open(str(self._device), os.O_RDONLY | os.O_CLOEXEC)
            self._ioctl(self._descriptor, _REQUEST, message, True)
        except OSError:
            return b""
        _, code, _, _, _, error = _HEAD.unpack_from(message)
        if code != _SUCCESS or error:
            return b""
        return bytes(message[_HEAD.size : _HEAD.size + _TEXT_BYTES]).partition(b"\0")[0]

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
