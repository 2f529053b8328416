"""Boards as data: one TOML file each in ``boards/``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.errors import LabError

_FOLDER = Path(__file__).resolve().parent / "boards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """A power rail: where its chip sits, and what it shows at boot."""

    name: str
    chip: str  # ina3221, ina226, ina219, pmic
    volts: float
    watts: float
    address: int = 0
    channel: int = 1
    shunt_uohm: int = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What a real board of the kind shows, and what QEMU needs to show the same."""

    name: str
    model: str
    compatible: list[str]
    serial: str
    architecture: str  # Debian's word: arm64, armhf
    suite: str
    cpu: str  # QEMU's nearest model; midr gives it the board's part number
    midr: int
    cores: int
    memory_mib: int
    profile: str  # of edgeq
    hidden_flags: list[str]  # QEMU's CPU has them, the board's does not
    added_flags: list[str]
    cpuinfo_tail: str  # what the vendor's kernel appends to /proc/cpuinfo
    files: dict[str, str]  # path -> text: os-release, vendors' markers
    tools: list[str]  # of guest/, to appear in /usr/bin
    zones: list[str]
    critical_c: float
    temperature_c: float
    steps_mhz: list[float]
    cluster: int  # processors of one cpufreq policy
    governor: str
    cap_by_kernel: bool
    firmware: bool
    battery: dict[str, Any] | None
    rails: list[Rail]
    pmic_volts: dict[str, float]
    vcgencmd: dict[str, Any]


_DEFAULTS: dict[str, Any] = {
    "suite": "bookworm",
    "hidden_flags": [],
    "added_flags": [],
    "cpuinfo_tail": "",
    "files": {},
    "tools": [],
    "critical_c": 110.0,
    "temperature_c": 45.0,
    "governor": "ondemand",
    "cap_by_kernel": False,
    "firmware": False,
    "battery": None,
    "rails": [],
    "pmic_volts": {},
    "vcgencmd": {},
}


def names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def path(name: str) -> Path:
    return _FOLDER / f"{name}.toml"


def board(name: str) -> Board:
    """The board of that name; ``like`` in its file names another whose values it starts from.

    Raises:
        LabError: no such board, or a file with a wrong key.
    """
    values = _DEFAULTS | _values(name)
    rails = [Rail(**rail) for rail in values.pop("rails")]
    try:
        return Board(name=name, rails=rails, **values)
    except TypeError as error:
        raise LabError(f"{path(name)}: {error}") from error


def _values(name: str) -> dict[str, Any]:
    if name not in names():
        raise LabError(f"there is no board {name!r}", hint="boards: " + ", ".join(names()))
    values = tomllib.loads(path(name).read_text())
    like = values.pop("like", None)
    return (_values(like) | values) if like else values
