"""The command line: parse, call, print. Results on stdout, progress on stderr."""

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab import boards, cache, debian, faults, lab, outfit, qemu
from tests.lab.errors import LabError
from tests.lab.machine import Machine

# What a sensor can be told to show.
_CELSIUS = (-60.0, 200.0)
_MEGAHERTZ = (0.0, 100_000.0)
_WATTS = (0.0, 1000.0)
_FLAGS = 0xFFFFF


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for what went wrong, 2 for a wrong usage."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given) or 0
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        if error.hint:
            sys.stderr.write(f"     {error.hint}\n")
        return 1
    except BrokenPipeError:  # who reads this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("lab: interrupted; nothing is left half\n")
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab", description="Emulated boards, to try edgeq and to test it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> Any:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    build = command("build", _build, "Make images and templates, all boards' or one's.")
    build.add_argument("--board", action="append", choices=lab.boards())
    up = command("up", _up, "Clone a machine.")
    up.add_argument("name")
    up.add_argument("--board", required=True, help=", ".join(lab.boards()))
    up.add_argument("--add", action="store_true", help="also tell edgeq of it")
    up.add_argument("--memory", type=int, metavar="MIB")
    up.add_argument("--cores", type=int, metavar="N")
    down = command("down", _down, "End machines and delete their disks.")
    down.add_argument("name", nargs="*")
    down.add_argument("--all", action="store_true")
    listing = command("list", _list, "Show the machines.")
    listing.add_argument("--json", action="store_true")
    breaking = command("break", _break, "Do something bad to a machine; no fault: list them.")
    breaking.add_argument("name")
    breaking.add_argument("fault", nargs="?", metavar="FAULT")
    breaking.add_argument("options", nargs="*", metavar="KEY=VALUE", default=())
    setting = command("set", _set, "Set what a machine's sensors show.")
    setting.add_argument("name")
    setting.add_argument("values", nargs="+", metavar="KEY=VALUE")
    ssh = command("ssh", _ssh, "Log in, or run a command.")
    ssh.add_argument("name")
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    command("needs", _needs, "Print the Debian packages that are missing.")
    command("prune", _prune, "Delete images and templates that are out of date.")
    return parser


def _build(given: argparse.Namespace) -> int:
    """Make boards; architectures side by side, each in a process that Ctrl-C ends by itself."""
    names = given.board or lab.boards()
    debian.require()
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(boards.board(name).architecture, []).append(name)
    if len(groups) > 1:
        again = [sys.executable, "-m", "tests.lab", "build"]
        words = [
            [word for name in group for word in ("--board", name)] for group in groups.values()
        ]
        children = [subprocess.Popen([*again, *each]) for each in words]
        return max(child.wait() for child in children)
    for name in names:
        lab.build(name)
    _print("ready: " + ", ".join(names))
    return 0


def _up(given: argparse.Namespace) -> int:
    machine = lab.up(given.name, given.board, cores=given.cores, memory_mib=given.memory, keep=True)
    _print(f"{machine.name}: {machine.board} at {machine.host}:{machine.port}")
    words = add_command(machine)
    if not given.add:
        _print(" ".join(words))
        return 0
    edgeq = _edgeq()
    known = subprocess.run(
        [edgeq, "devices", "show", machine.name], capture_output=True, check=False
    )
    if known.returncode == 0:  # of an earlier machine, whose key was another
        subprocess.run([edgeq, "devices", "remove", machine.name], check=True)
    code = subprocess.run([edgeq, *words[1:]], check=False).returncode
    if code == 0:
        machine.noted(added_to=os.environ.get("EDGEQ_HOME", ""))
    return code


def add_command(machine: Machine) -> list[str]:
    """The line that tells edgeq of a machine: its host key pinned, or as a phone on Wi-Fi."""
    if machine.profile == outfit.ANDROID:
        words = ["edgeq", "devices", "add", machine.name, "--profile", machine.profile]
        return [*words, "--host", f"{machine.host}:{machine.forward(outfit.ADB_PORT)}"]
    blob = base64.b64decode(machine.host_key.split()[1])
    print_of_key = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    where = f"{machine.user}@{machine.host}:{machine.port}"
    return [
        *("edgeq", "devices", "add", machine.name, "--profile", machine.profile),
        *("--host", where, "--identity", str(machine.key)),
        *("--fingerprint", f"SHA256:{print_of_key}"),
    ]


def _edgeq() -> str:
    places = (Path(sys.executable).parent, Path(os.environ.get("EDGEQ_VENV", ".venv")) / "bin")
    for place in places:
        if (place / "edgeq").exists():
            return str(place / "edgeq")
    found = shutil.which("edgeq")
    if found is None:
        raise LabError("edgeq is not installed here", hint="./scripts/environment, then again")
    return found


def _down(given: argparse.Namespace) -> None:
    machines = lab.list() if given.all else [lab.find(name) for name in given.name]
    if not machines and not given.all:
        raise LabError("which machine?", hint="scripts/lab down NAME, or --all")
    for machine in machines:
        if machine.added_to is not None and machine.added_to == os.environ.get("EDGEQ_HOME", ""):
            subprocess.run([_edgeq(), "devices", "remove", machine.name], check=False)
        machine.down()
        _print(f"{machine.name} is gone")


def _list(given: argparse.Namespace) -> None:
    machines = lab.list()
    if given.json:
        rows = [
            {
                "name": machine.name,
                "board": machine.board,
                "state": state(machine),
                "host": machine.host,
                "port": machine.port,
                "user": machine.user,
                "key": str(machine.key),
                "host_key": machine.host_key,
                "pid": machine.pid,
            }
            for machine in machines
        ]
        _print(json.dumps(rows, indent=1))
        return
    table = [("NAME", "BOARD", "STATE", "PORT", "CORES", "MEMORY")]
    table += [
        (
            each.name,
            each.board,
            state(each),
            str(each.port),
            str(each.cores),
            f"{each.memory_mib} MiB",
        )
        for each in machines
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        _print(
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        )


def state(machine: Machine) -> str:
    """In a word: on, off, frozen."""
    if machine.pid is None:
        return "off"
    with qemu.monitor(machine.folder) as qmp:
        return "on" if qmp("query-status")["status"] == "running" else "frozen"


def _break(given: argparse.Namespace) -> None:
    machine = lab.find(given.name)
    if given.fault is None:
        width = max(map(len, faults.FAULTS))
        for name, fault in faults.FAULTS.items():
            words = [name.ljust(width), fault.text]
            words += [f"[{'=… '.join(fault.options)}=…]"] if fault.options else []
            words += [f"(undo: {fault.undo})"] if fault.undo else []
            _print("  ".join(words))
        return
    options = {key: _number(value) for key, value in map(_pair, given.options)}
    fault = faults.inject(machine, given.fault, options)
    _print(f"{machine.name}: {fault.text}")
    if fault.undo:
        _print(f"undo: scripts/lab break {machine.name} {fault.undo}")


def _set(given: argparse.Namespace) -> None:
    machine = lab.find(given.name)
    shown = machine.set(**changes(boards.board(machine.board), given.values))
    for rail, watts in shown.items():
        _print(f"{rail}: {watts:.4g} W")


def changes(board: boards.Board, words: list[str]) -> dict[str, Any]:
    """What ``KEY=VALUE`` words ask for: keys are values', rails', zones' or battery names.

    Raises:
        LabError: the board has nothing of that name.
    """
    found: dict[str, Any] = {}
    for key, value in map(_pair, words):
        if key in {rail.name for rail in board.rails}:
            found.setdefault("rails", {})[key] = _within(key, value, _WATTS)
        elif key in board.zones:
            found.setdefault("temperature_c", {})[key] = _within(key, value, _CELSIUS)
        elif key == "temperature_c":
            found[key] = _within(key, value, _CELSIUS)
        elif key == "cap_mhz":
            found[key] = _within(key, value, _MEGAHERTZ)
        elif key == "throttled" and board.firmware:
            found[key] = _bits(value)
        elif board.battery is not None and key in board.battery:
            found.setdefault("battery", {})[key] = value
        else:
            known = ["temperature_c", "cap_mhz"] + ["throttled"] * board.firmware + board.zones
            known += [rail.name for rail in board.rails] + list(board.battery or {})
            raise LabError(f"{board.name} has no {key!r}", hint="it has " + ", ".join(known))
    return found


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not value:
        raise LabError(f"{word!r} is not KEY=VALUE")
    return key, value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LabError(f"{text!r} is not a number") from None


def _within(key: str, text: str, limits: tuple[float, float]) -> float:
    value, (low, high) = _number(text), limits
    if not low <= value <= high:
        raise LabError(f"{key}={text} is not within {low:g} and {high:g}")
    return value


def _bits(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= _FLAGS:
        raise LabError(f"throttled={text} is no number of vcgencmd's, such as 0x50005")
    return value


def _ssh(given: argparse.Namespace) -> int:
    machine = lab.find(given.name)
    return subprocess.run([*machine.ssh_command(), *given.command], check=False).returncode


def _needs(_: argparse.Namespace) -> None:
    _print(" ".join(debian.missing()))


def _prune(_: argparse.Namespace) -> None:
    for folder in lab.outdated():
        size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
        _print(f"deleted {folder.name}, {size >> 20} MiB")
    _print(f"the rest lies in {cache.home()}")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
