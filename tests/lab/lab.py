"""The lab: machines by name, as clones of boards.

from tests.lab import lab
machine = lab.up("dev1", "pi4")
machine.ssh("uname -m").stdout
machine.down()
"""

import os
import re
import shutil
import time
from pathlib import Path

from tests.lab import boards as kinds
from tests.lab import cache, debian, machine, templates
from tests.lab.errors import LabError
from tests.lab.machine import Machine

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TRIES = 5
_MADE_WITHIN_S = 60


def boards() -> list[str]:
    """The names of the boards."""
    return kinds.names()


def build(board: str) -> None:
    """Make the board's image and template, if they are not there."""
    debian.require()
    templates.template(kinds.board(board))


def up(
    name: str,
    board: str,
    *,
    cores: int | None = None,
    memory_mib: int | None = None,
    keep: bool = False,
) -> Machine:
    """A new machine; what it needs is built first if it is not there.

    It runs until ``down``. Without ``keep`` its name is free again once this process has ended, so
    that what a killed test left behind is in nobody's way.

    Raises:
        LabError: the name is taken or no name, no such board, or a package is missing.
    """
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a machine", hint="letters a-z, digits, and -")
    debian.require()
    template = templates.template(kinds.board(board), cores=cores, memory_mib=memory_mib)
    for tries in range(_TRIES):
        folder = _folder(name)
        try:
            port = templates.free_port(_ports())
            owner = None if keep else os.getpid()
            return machine.clone(name, template, port=port, owner=owner)
        except LabError as error:
            _clear(folder)
            # Somebody may have taken the port in the meantime.
            if "host forwarding" not in str(error) or tries == _TRIES - 1:
                raise
        except BaseException:
            _clear(folder)
            raise
    raise AssertionError


def find(name: str) -> Machine:
    """The machine of that name, on or off.

    Raises:
        LabError: there is none.
    """
    return machine.read(cache.home() / "run" / name)


def machines() -> list[Machine]:
    """All machines, on or off."""
    folders = sorted((cache.home() / "run").glob("*/machine.json"))
    return [machine.read(path.parent) for path in folders]


def _ports() -> set[int]:
    return {each.port for each in machines()}


def _folder(name: str) -> Path:
    """Take a name: making its folder is the lock."""
    folder = cache.home() / "run" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if _is_left_behind(folder):
        _clear(folder)
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise LabError(f"{name} is up already", hint=f"scripts/lab down {name}") from error
    return folder


def _is_left_behind(folder: Path) -> bool:
    """Whether the machine was wanted only as long as a process that is no more."""
    try:
        owner = machine.read(folder).owner
    except LabError:  # it has no notes: it is being made, or was once
        return folder.is_dir() and time.time() - folder.stat().st_mtime > _MADE_WITHIN_S
    return owner is not None and not machine.alive(owner)


def _clear(folder: Path) -> None:
    try:
        machine.read(folder).down()
    except LabError:
        shutil.rmtree(folder, ignore_errors=True)


def outdated() -> list[Path]:
    """Images and templates that no board of today and no machine uses."""
    used = {Path(path) for each in machines() for path in (each.template, each.image)}
    for name in boards():
        used |= templates.current(kinds.board(name))
    made = [path for kind in ("kernel", "image", "template") for path in _made(kind)]
    return [path for path in made if path not in used]


def _made(kind: str) -> list[Path]:
    return [path for path in cache.home().glob(f"{kind}-*") if path.is_dir()]


# What the lab calls it; the builtin of that name is not needed below.
list = machines  # noqa: A001
