"""One running machine: log in, be root, set its sensors, break it, cut its power."""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.lab import boards, cache, channel, image, qemu, templates
from tests.lab.errors import CommandError, LabError

_READY_S = 120.0
_ENTROPY_BYTES = 64
_NETWORK_MODULES = "modprobe sch_netem; modprobe ifb; modprobe act_mirred; modprobe cls_matchall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine by its folder; several processes may hold one."""

    name: str
    board: str
    port: int
    cores: int
    memory_mib: int
    template: str
    image: str
    host_key: str
    profile: str
    owner: int | None = None  # the process that wanted it, if it is to live no longer than that
    added_to: str | None = None  # the EDGEQ_HOME where `up --add` added it

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def user(self) -> str:
        return image.USER

    @property
    def key(self) -> Path:
        return image.client_key()

    @property
    def folder(self) -> Path:
        return cache.home() / "run" / self.name

    @property
    def pid(self) -> int | None:
        """QEMU's, or None when the machine is off."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def ssh(self, command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as the board's user with the stock client; the exit code is not judged."""
        return subprocess.run(
            [*self.ssh_command(), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ssh_command(self) -> list[str]:
        """The stock client with nothing of the user's settings."""
        options = {
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": "30",
            "LogLevel": "ERROR",
            # The default, with its post-quantum half, takes a second of emulation more.
            "KexAlgorithms": "curve25519-sha256",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        where = ["-p", str(self.port), "-i", str(self.key), f"{self.user}@{self.host}"]
        return ["ssh", "-F", "none", *words, *where]

    def root(self, command: str, timeout_s: float = 30) -> str:
        """Run a shell command as root, without the network; gives what it printed.

        Raises:
            CommandError: it ended with another code than 0, or not within the time.
        """
        done = channel.ask(self.folder, "run", timeout_s, command=command, limit_s=timeout_s)
        output: str = done["output"]
        if done["code"] != 0:
            said = "did not end" if done["code"] is None else f"ended with {done['code']}"
            raise CommandError(f"{self.name}: {command!r} {said}", code=done["code"], output=output)
        return output

    def set(self, **changes: Any) -> dict[str, float]:
        """Set the state behind the sensors; gives the watts that the rails' chips now show.

        ``temperature_c`` (a number, or numbers by zone), ``cap_mhz`` (0: none), ``throttled``
        (vcgencmd's bits), ``rails`` (watts by name), ``battery`` (test_power's parameters).
        """
        done = channel.ask(self.folder, "set", changes=changes)
        rails: dict[str, float] = done["rails"]
        return rails

    def play(self, steps: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
        """Start a changing load in the machine: each step's changes hold for its seconds."""
        channel.ask(self.folder, "play", steps=[[seconds, dict(what)] for seconds, what in steps])

    def played(self) -> dict[str, list[tuple[int, float]]]:
        """By rail, every change since boot: the machine's monotonic ns, and the watts shown."""
        done = channel.ask(self.folder, "played")
        return {
            name: [(moment, watts) for moment, watts in changes]
            for name, changes in done["rails"].items()
        }

    def playing(self) -> bool:
        return bool(channel.ask(self.folder, "played")["playing"])

    def clock(self, time_ns: int | None = None) -> None:
        """Set the wall clock: to the host's, or to ``time_ns`` since 1970."""
        channel.ask(self.folder, "clock", time_ns=time.time_ns() if time_ns is None else time_ns)

    def link(self, up: bool) -> None:
        """Plug the network cable in or out; connections are not closed, they starve."""
        with qemu.monitor(self.folder) as qmp:
            qmp("set_link", name=qemu.NETWORK, up=up)

    def network(self, delay_ms: float = 0, loss_percent: float = 0) -> None:
        """Delay round trips, and lose packets in each direction; no arguments: none of it."""
        self.root(
            f"{_NETWORK_MODULES}; name=$(ls /sys/class/net | grep -vE '^(lo|ifb)' | head -1);"
            " tc qdisc del dev $name root 2>/dev/null; tc qdisc del dev $name ingress 2>/dev/null;"
            " ip link set ifb0 down 2>/dev/null; true"
        )
        if not delay_ms and not loss_percent:
            return
        self.root(
            "set -e; name=$(ls /sys/class/net | grep -vE '^(lo|ifb)' | head -1);"
            f" tc qdisc add dev $name root netem delay {delay_ms}ms loss {loss_percent}%;"
            " ip link set ifb0 up; tc qdisc add dev $name ingress;"
            " tc filter add dev $name parent ffff: matchall action mirred egress redirect dev ifb0;"
            " tc qdisc del dev ifb0 root 2>/dev/null || true;"
            f" tc qdisc add dev ifb0 root netem loss {loss_percent}%"
        )

    def forward(self, guest_port: int) -> int:
        """Open a port of the machine on the host's loopback, until it is switched off."""
        port = templates.free_port(set())
        with qemu.monitor(self.folder) as qmp:
            rule = f"hostfwd_add net0 tcp:127.0.0.1:{port}-:{guest_port}"
            said = qmp("human-monitor-command", **{"command-line": rule})
        if said.strip():
            raise LabError(f"{self.name}: {said.strip()}")
        return port

    def freeze(self) -> None:
        """Stop the machine in the middle of what it does; its clocks stand still too."""
        with qemu.monitor(self.folder) as qmp:
            qmp("stop")

    def thaw(self) -> None:
        with qemu.monitor(self.folder) as qmp:
            qmp("cont")

    def reset(self, wait: bool = True) -> None:
        """Press the reset button: nothing is synced; then wait until SSH answers again."""
        with qemu.monitor(self.folder) as qmp:
            qmp("system_reset")
            qmp("cont")
        if wait:
            self.wait()

    def kill(self) -> None:
        """Cut the power."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        (self.folder / "pid").unlink(missing_ok=True)

    def start(self, wait: bool = True) -> None:
        """Boot the machine's disk again after ``kill``, at the same port."""
        if self.pid is not None:
            raise LabError(f"{self.name} is on already")
        setting = self._setting()
        qemu.start(qemu.command(setting, self.folder, port=self.port, memory=qemu.Memory()))
        if wait:
            self.wait()

    def wait(self, timeout_s: float = _READY_S) -> None:
        """Until SSH answers.

        Raises:
            LabError: it does not within the time.
        """
        if not qemu.banner(self.port, timeout_s):
            raise LabError(
                f"{self.name}: no SSH on port {self.port} within {timeout_s:.0f} s",
                hint=f"its console: {self.folder / 'console.log'}",
            )

    def down(self) -> None:
        """End the machine and delete its disk."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def noted(self, **changes: Any) -> "Machine":
        """The same machine with other notes, written to its folder."""
        machine = replace(self, **changes)
        machine.note()
        return machine

    def note(self) -> None:
        draft = self.folder / "machine.json.new"
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(self.folder / "machine.json")

    def _setting(self) -> qemu.Setting:
        return qemu.Setting(
            board=boards.board(self.board),
            cores=self.cores,
            memory_mib=self.memory_mib,
            image=Path(self.image),
            tree=Path(self.template) / "board.dtb",
        )


def clone(name: str, template: templates.Template, *, port: int, owner: int | None) -> Machine:
    """A new machine from a template, with its own identity, ready for SSH."""
    setting = template.setting
    folder = cache.home() / "run" / name
    machine = Machine(
        name=name,
        board=setting.board.name,
        port=port,
        cores=setting.cores,
        memory_mib=setting.memory_mib,
        template=str(template.folder),
        image=str(setting.image),
        host_key="",
        profile=setting.board.profile,
        owner=owner,
    )
    machine.note()
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name]
    with subprocess.Popen([*keygen, "-f", folder / "host_key"]) as making:
        qemu.overlay(folder / "disk.qcow2", template.folder / "disk.qcow2", "qcow2")
        memory = qemu.Memory(file=template.folder / "ram", shared=False)
        qemu.start(qemu.command(setting, folder, port=port, memory=memory, incoming=True))
        qemu.load(folder, template.folder / "state")
    if making.returncode != 0:
        raise LabError(f"ssh-keygen ended with {making.returncode}")
    public = (folder / "host_key.pub").read_text()
    machine = machine.noted(host_key=" ".join(public.split()[:2]))
    known = f"[{machine.host}]:{port} {machine.host_key}\n"
    (folder / "known_hosts").write_text(known)
    channel.ask(
        folder,
        "identify",
        _READY_S,
        hostname=name,
        host_key=(folder / "host_key").read_text(),
        host_key_public=public,
        machine_id=secrets.token_hex(16),
        time_ns=time.time_ns(),
        entropy=_base64(os.urandom(_ENTROPY_BYTES)),
    )
    return machine


def read(folder: Path) -> Machine:
    """The machine of a folder in ``run/``."""
    try:
        return Machine(**json.loads((folder / "machine.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise LabError(f"there is no machine {folder.name!r}", hint="scripts/lab list") from error


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits for its parent does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
