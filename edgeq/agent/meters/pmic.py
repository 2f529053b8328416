"""Raspberry Pi 5: the power chip's own converters, by ``vcgencmd pmic_read_adc``.

Twelve rails have a current (``VDD_CORE_A current(7)=0.93A``) and a voltage (``VDD_CORE_V …``):
the sum of their products is what the chip gives out. ``EXT5V`` and ``BATT`` have no current. What
is fed straight from 5 V is not in it, nor what the converters themselves lose.
raspberrypi.com/documentation/computers/os.html#vcgencmd
"""

from __future__ import annotations

import functools
import re
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent import vcgencmd
from edgeq.agent.commands import Command
from edgeq.agent.mailbox import Mailbox
from edgeq.agent.ports import Found, Raw, Sensor, Slow, each, number, text_of

_LINE = re.compile(rb"(\w+)_([AV])\b[^=\r\n]*=([^\r\n]*)")
_PI5 = re.compile(r"Raspberry Pi (5|500|Compute Module 5)")
_LEFT_OUT = "without what is fed from 5 V (USB, HATs, NVMe) and conversion losses"
_ASKED = "pmic_read_adc"


def probe(root: Path) -> Found:
    """The sum of the rails, where the firmware knows the command: on a Pi 5 and its kin only."""
    model = text_of(root / "proc/device-tree/model")
    program = vcgencmd.find(root)
    if program is None:
        return Found(reason="PMIC: vcgencmd is not installed" if _PI5.search(model) else "")
    command = Command([program, _ASKED])
    text = command()
    rails = _rails(text)
    if rails is not None:
        source = f"pmic_read_adc, sum of {len(rails)} rails, {_LEFT_OUT}"
        channel = wire.Channel("power_w", source, "rail", total=True)
        watts = functools.partial(_watts, frozenset(rails))
        return Found((Sensor(channel, (), each(watts), _source(root, command, rails.keys())),))
    if _PI5.search(model):
        said = text.decode("utf-8", "replace").strip()[:80] or "no answer"
        return Found(reason=f"PMIC: vcgencmd pmic_read_adc: {said}")
    return Found(reason=f"{model} has no power sensor of its own" if model else "")


def _source(root: Path, command: Command, rails: typing.AbstractSet[str]) -> Slow:
    """The firmware asked directly, which costs far less, if it says the same as the program."""
    if str(root) == "/":
        mailbox = Mailbox(_ASKED)
        answered = _rails(mailbox())
        if answered is not None and answered.keys() == rails:
            return mailbox
    return command


def _rails(text: bytes) -> dict[str, float] | None:
    """Watts of each rail that has both a voltage and a current; None where there is none."""
    volts: dict[str, float] = {}
    amperes: dict[str, float] = {}
    for name, unit, digits in _LINE.findall(text):
        value = number(digits)
        if value is not None:
            (amperes if unit == b"A" else volts)[name.decode()] = value
    paired = {name: volts[name] * amperes[name] for name in amperes if name in volts}
    return paired or None


def _watts(expected: typing.AbstractSet[str], raw: Raw) -> float | None:
    """The sum; None when a rail that was there is missing, for then the sum is another."""
    rails = _rails(raw[0])
    return None if rails is None or rails.keys() != expected else sum(rails.values())
