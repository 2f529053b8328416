"""QEMU: how a machine is started, frozen to a template, cloned, and spoken to."""

import contextlib
import json
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.boards import Board
from tests.lab.errors import LabError

_PROGRAMS = {"arm64": "qemu-system-aarch64", "armhf": "qemu-system-arm"}
_LONGEST_SOCKET_PATH = 100  # of 108 bytes in sockaddr_un
NETWORK = "nic0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The machine's RAM: a template's file, or nothing but memory of the process."""

    file: Path | None = None
    shared: bool = False  # written through to the file, or copied on write


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to start a board."""

    board: Board
    cores: int
    memory_mib: int
    image: Path
    tree: Path


def dump_tree(board: Board, cores: int, memory_mib: int, target: Path) -> list[str]:
    """The command that writes QEMU's own device tree."""
    return [
        *_machine(board, cores, memory_mib, f"virt,dumpdtb={target}"),
        *("-display", "none", "-nodefaults"),
    ]


def _machine(board: Board, cores: int, memory_mib: int, kind: str) -> list[str]:
    return [
        _PROGRAMS[board.architecture],
        *("-M", kind, "-cpu", f"{board.cpu},midr={board.midr:#x}"),
        *("-smp", str(cores), "-m", str(memory_mib), "-accel", "tcg,thread=multi,tb-size=512"),
    ]


def command(
    setting: Setting, folder: Path, *, port: int, memory: Memory, incoming: bool = False
) -> list[str]:
    """QEMU for a machine whose disk, sockets and logs lie in ``folder``."""
    if len(str(folder / "lab.sock")) > _LONGEST_SOCKET_PATH:
        raise LabError(f"{folder} is too long a path for a socket", hint="set EDGEQ_LAB=/tmp/lab")
    ram = f"id=ram,size={setting.memory_mib}M"
    if memory.file:
        shared = "on" if memory.shared else "off"
        ram = f"memory-backend-file,{ram},mem-path={memory.file},share={shared}"
    else:
        ram = f"memory-backend-ram,{ram}"
    kind = "virt,memory-backend=ram"
    image = setting.image
    return [
        *_machine(setting.board, setting.cores, setting.memory_mib, kind),
        *("-object", ram, "-display", "none", "-nodefaults", "-daemonize"),
        *(
            "-kernel",
            f"{image}/vmlinuz",
            "-initrd",
            f"{image}/initrd.gz",
            "-dtb",
            f"{setting.tree}",
        ),
        *("-append", "console=ttyAMA0 quiet loglevel=3 mitigations=off kpti=off panic=-1"),
        # cache=writeback: a flush of the guest ends when the image file holds its data and its
        # qcow2 tables. With cache=unsafe the tables would stay in QEMU's memory, and SIGKILL, our
        # power cut, would take what the guest had flushed. What the guest had not flushed lives
        # in its page cache and dies with it, as on a board.
        *("-drive", f"if=none,id=hd0,file={folder}/disk.qcow2,format=qcow2,cache=writeback"),
        *("-device", "virtio-blk-pci,drive=hd0"),
        # restrict: machines reach neither this host nor the network, like boards without internet
        *("-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", f"virtio-net-pci,netdev=net0,id={NETWORK},romfile="),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=lab,path={folder}/lab.sock,server=on,wait=off"),
        *("-device", "virtserialport,chardev=lab,name=org.edgeq.lab"),
        *("-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off"),
        *("-serial", f"file:{folder}/console.log", "-pidfile", f"{folder}/pid"),
        *(("-incoming", "defer") if incoming else ()),
    ]


def start(arguments: list[str]) -> None:
    """Start a machine; it lives on when this process ends.

    Raises:
        LabError: QEMU did not start, for instance because its port was taken meanwhile.
    """
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise LabError(f"QEMU did not start: {ended.stderr.strip()[-1000:]}")


class Monitor:
    """QEMU's own control socket; a command is an attribute-free call."""

    def __init__(self, folder: Path, timeout_s: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(folder / "qmp.sock"))
            self._lines = self._socket.makefile("rw")
            self._lines.readline()
            self("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise LabError(f"{folder.name} is not running", hint=f"{error}") from error

    def __call__(self, name: str, /, **arguments: Any) -> Any:
        self._lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._lines.flush()
        while True:
            message = json.loads(self._lines.readline() or '{"error": {"desc": "it ended"}}')
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise LabError(f"QEMU refuses {name}: {message['error']['desc']}")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@contextlib.contextmanager
def monitor(folder: Path) -> Iterator[Monitor]:
    link = Monitor(folder)
    try:
        yield link
    finally:
        link.close()


def save(folder: Path, target: Path) -> None:
    """Stop a machine whose RAM is a file, and save the state of its devices beside it."""
    with monitor(folder) as qmp:
        qmp("migrate-set-capabilities", capabilities=_RAM_STAYS)
        qmp("stop")
        qmp("migrate", uri=f"exec:cat > {shlex.quote(str(target))}")
        while (status := qmp("query-migrate").get("status")) not in ("completed", "failed"):
            time.sleep(0.02)
        if status == "failed":
            raise LabError(f"the template's state could not be saved to {target}")
        qmp("quit")


def load(folder: Path, state: Path) -> None:
    """Let a machine that was started with ``incoming`` go on from a saved state."""
    with monitor(folder) as qmp:
        qmp("migrate-set-capabilities", capabilities=_RAM_STAYS)
        qmp("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
        while (status := qmp("query-status")["status"]) == "inmigrate":
            time.sleep(0.005)
        if status != "running":
            qmp("cont")


# The RAM file is mapped, not copied: that is why a clone takes no time.
_RAM_STAYS = [{"capability": "x-ignore-shared", "state": True}]


def overlay(disk: Path, base: Path, base_format: str) -> None:
    """A disk that holds only what differs from ``base``."""
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", base, disk]
    subprocess.run(create, check=True)


def banner(port: int, timeout_s: float) -> bool:
    """Whether an SSH server says its version line within the time."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as link:
            link.settimeout(min(5.0, left))
            if link.recv(4) == b"SSH-":
                return True
        time.sleep(0.02)
    return False
