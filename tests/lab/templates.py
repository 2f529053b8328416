"""A template is a board that booted once and was frozen; machines are clones of it."""

import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache, channel, devicetree, linux, outfit, qemu
from tests.lab import image as images
from tests.lab.boards import Board
from tests.lab.errors import ChannelError, LabError

_BOOT_S = 240.0
_PORTS = range(24000, 31000)  # below the range that the kernel takes for outgoing connections
_HERE = Path(__file__).resolve().parent
# What a first login and a first Python start read, so that clones have it in memory.
_WARM = (
    "ldconfig; python3 -c 'import json,hashlib,zipfile,subprocess,tempfile,socket,argparse';"
    " su pi -c 'true; uname -a; cat /proc/cpuinfo' >/dev/null;"
    " /usr/lib/openssh/sftp-server </dev/null; mkdir -p /run/sshd; /usr/sbin/sshd -T >/dev/null"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A frozen board and how to start its clones."""

    folder: Path
    setting: qemu.Setting


def template(board: Board, *, cores: int | None = None, memory_mib: int | None = None) -> Template:
    """The board's template, made if it is not there."""
    place = folder(board, cores=cores, memory_mib=memory_mib)

    def setting_in(tree_folder: Path) -> qemu.Setting:
        return qemu.Setting(
            board=board,
            cores=cores or board.cores,
            memory_mib=memory_mib or board.memory_mib,
            image=images.folder(board.architecture, board.suite),
            tree=tree_folder / "board.dtb",
        )

    def make(draft: Path) -> None:
        images.image(board.architecture, board.suite)
        _build(draft, setting_in(draft))

    cache.made(place, make)
    return Template(folder=place, setting=setting_in(place))


def folder(board: Board, *, cores: int | None = None, memory_mib: int | None = None) -> Path:
    """Where the template made of today's sources lies."""
    sources = [_HERE / name for name in ("qemu.py", "outfit.py", "devicetree.py", "templates.py")]
    sources += [outfit.DAEMON] if board.profile == outfit.ANDROID else []
    image = images.folder(board.architecture, board.suite).name
    size = f"{cores or board.cores} {memory_mib or board.memory_mib}"
    key = cache.content_key(image, repr(board), size, qemu_version(board), *sources)
    return cache.home() / f"template-{board.name}-{key}"


def current(board: Board) -> set[Path]:
    """All folders that the board's machines of today's sources are made from."""
    architecture = board.architecture
    return {folder(board), images.folder(architecture, board.suite), linux.folder(architecture)}


def qemu_version(board: Board) -> str:
    program = qemu.dump_tree(board, 1, 128, Path("none"))[0]
    ended = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()[0]


def free_port(taken: set[int]) -> int:
    """A port of loopback that nobody listens on now, and that no stopped machine keeps."""
    offset = int.from_bytes(os.urandom(2), "big")
    for number in range(len(_PORTS)):
        port = _PORTS[(offset + number) % len(_PORTS)]
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LabError("no free port between 24000 and 31000")


def _build(draft: Path, setting: qemu.Setting) -> None:
    board = setting.board
    cache.say(f"{board.name}: booting it once")
    began = time.monotonic()
    dump = qemu.dump_tree(board, setting.cores, setting.memory_mib, setting.tree)
    devicetree.write(board, dump, setting.tree)
    qemu.overlay(draft / "disk.qcow2", setting.image / "rootfs.ext4", "raw")
    memory = qemu.Memory(file=draft / "ram", shared=True)
    qemu.start(qemu.command(setting, draft, port=free_port(set()), memory=memory))
    pid = int((draft / "pid").read_text())
    try:
        wait_for_agent(draft, _BOOT_S)
        _fit_out(draft, board)
        channel.ask(draft, "run", 120, command=_WARM, limit_s=120)
        channel.ask(draft, "run", 60, command="sync", limit_s=60)
        qemu.save(draft, draft / "state")
        _ended(pid)
    except BaseException:
        os.kill(pid, 9)
        shutil.copyfile(draft / "console.log", cache.home() / f"{board.name}.console.log")
        raise
    for name in ("qmp.sock", "lab.sock", "channel.lock", "pid"):
        (draft / name).unlink(missing_ok=True)
    seconds = time.monotonic() - began
    (draft / "template.json").write_text(json.dumps({"board": board.name, "seconds": seconds}))
    used = (draft / "ram").stat().st_blocks * 512 >> 20
    cache.say(f"{board.name}: template ready after {seconds:.1f} s, {used} MiB of RAM in use")


def _fit_out(draft: Path, board: Board) -> None:
    """Make the general machine the board."""
    channel.ask(draft, "unpack", tar_base64=outfit.packed(board))
    done = channel.ask(draft, "run", 120, command="/etc/edgeq-lab/setup", limit_s=120)
    if done["code"] != 0 or done["output"]:
        raise LabError(f"{board.name}: its drivers do not load: {done['output']}")
    channel.ask(draft, "load_board")


def wait_for_agent(folder: Path, timeout_s: float) -> None:
    """Until the machine's agent answers, that is, until it has booted so far."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            channel.ask(folder, "ping", max(1.0, deadline - time.monotonic()))
        except ChannelError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _ended(pid: int) -> None:
    """Wait until a QEMU that was told to quit is gone: then its files are whole."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
