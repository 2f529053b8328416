"""What a Raspberry Pi's firmware answers: ``temp=48.2'C``, ``throttled=0x50005`` and the like."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from edgeq import wire
from edgeq.agent.commands import Command
from edgeq.agent.mailbox import Mailbox
from edgeq.agent.ports import Raw, Sensor, each

_PLACES = ("usr/bin", "opt/vc/bin", "usr/local/bin", "bin")
_TIMEOUT_S = 5.0
_VALUE = re.compile(r"=\s*(0x[0-9a-f]+|-?[0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)
_SHOWN = 120
_PROGRAM_HZ = 2.0


def find(root: Path) -> str | None:
    """The program, wherever the distribution has it; a session over SSH may have a short PATH."""
    places = os.pathsep.join(str(root / place) for place in _PLACES)
    own = os.environ.get("PATH", "") + os.pathsep if str(root) == "/" else ""
    return shutil.which("vcgencmd", path=own + places)


def ask(root: Path, *words: str) -> tuple[str, str]:
    """Its answer; where there is none, the reason."""
    program = find(root)
    if program is None:
        return "", "no vcgencmd"
    try:
        ended = subprocess.run(
            [program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", "vcgencmd does not answer"
    text = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode or not _VALUE.search(text):
        said = " ".join(text.split())[:_SHOWN] or f"status {ended.returncode}"
        return "", f"vcgencmd says: {said} (is this user in the group video?)"
    return text, ""


def value(text: str) -> float | None:
    """The number behind the equals sign, hexadecimal or not, whatever its unit."""
    found = _VALUE.search(text)
    if found is None:
        return None
    digits = found.group(1)
    return float(int(digits, 16)) if digits[:2].lower() == "0x" else float(digits)


def sensor(root: Path, channel: wire.Channel, scale: float, *words: str) -> Sensor | None:
    """A channel of the sampler; None where the firmware does not answer now."""
    program, (said, _) = find(root), ask(root, *words)
    if program is None or not said:
        return None
    mailbox = Mailbox(" ".join(words))
    answered = mailbox() if str(root) == "/" else b""
    direct = answered.partition(b"=")[0].decode("utf-8", "replace") == said.partition("=")[0]
    source = mailbox if direct else Command([program, *words], _PROGRAM_HZ)

    def parse(raw: Raw) -> float | None:
        found = value(raw[0].decode("utf-8", "replace"))
        return None if found is None else scale * found

    return Sensor(channel, (), each(parse), source)
