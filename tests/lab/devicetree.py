"""A board's device tree: QEMU's own, with the board's names and its power monitors."""

import subprocess
from pathlib import Path

from tests.lab.boards import Board, Rail

_BUS = "/i2c-sim"
# Registers that a driver's probe looks at. INA3221: configuration, identity, conversion ready.
_PROBED = {
    "ina3221": [(0x00, 0x7127), (0xFE, 0x5449), (0xFF, 0x3220), (0x0F, 1)],
    "ina226": [(0x00, 0x4127), (0xFE, 0x5449), (0xFF, 0x2260)],
    "ina219": [(0x00, 0x399F)],
}


def write(board: Board, dump: list[str], target: Path) -> None:
    """Write the tree; ``dump`` is the QEMU command that gives QEMU's own to ``target``."""
    subprocess.run(dump, check=True, capture_output=True)
    tree = _Tree(target)
    tree.text("/", "model", board.model)
    tree.text("/", "compatible", *board.compatible, "linux,dummy-virt")
    tree.text("/", "serial-number", board.serial)
    chips: dict[int, list[Rail]] = {}
    for rail in board.rails:
        if rail.chip != "pmic":
            chips.setdefault(rail.address, []).append(rail)
    if chips:
        _bus(tree, chips)


class _Tree:
    def __init__(self, path: Path) -> None:
        self.path = path

    def node(self, name: str) -> None:
        subprocess.run(["fdtput", "-c", self.path, name], check=True)

    def text(self, node: str, name: str, *values: str) -> None:
        subprocess.run(["fdtput", "-t", "s", self.path, node, name, *values], check=True)

    def cells(self, node: str, name: str, *values: int) -> None:
        words = [str(value) for value in values]
        subprocess.run(["fdtput", "-t", "i", self.path, node, name, *words], check=True)


def _bus(tree: _Tree, chips: dict[int, list[Rail]]) -> None:
    tree.node(_BUS)
    tree.text(_BUS, "compatible", "edge,i2c-sim")
    tree.cells(_BUS, "#address-cells", 1)
    tree.cells(_BUS, "#size-cells", 0)
    preset = [
        number
        for address, rails in chips.items()
        for register, value in _PROBED[rails[0].chip]
        for number in (address, register, value)
    ]
    tree.cells(_BUS, "edge,preset", *preset)
    for address, rails in chips.items():
        node = f"{_BUS}/{rails[0].chip}@{address:x}"
        tree.node(node)
        tree.text(node, "compatible", f"ti,{rails[0].chip}")
        tree.cells(node, "reg", address)
        if rails[0].chip == "ina3221":
            _channels(tree, node, rails)
        else:
            tree.cells(node, "shunt-resistor", rails[0].shunt_uohm)
            tree.text(node, "label", rails[0].name)


def _channels(tree: _Tree, node: str, rails: list[Rail]) -> None:
    tree.cells(node, "#address-cells", 1)
    tree.cells(node, "#size-cells", 0)
    for rail in rails:
        channel = f"{node}/channel@{rail.channel - 1}"
        tree.node(channel)
        tree.cells(channel, "reg", rail.channel - 1)
        tree.text(channel, "label", rail.name)
        tree.cells(channel, "shunt-resistor-micro-ohms", rail.shunt_uohm)
