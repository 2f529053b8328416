"""Faults by name, each with the one that undoes it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab import boards
from tests.lab.errors import LabError
from tests.lab.machine import Machine

Action = Callable[[Machine, dict[str, float]], None]
_SSHD = "/etc/ssh/sshd_config.d/edgeq-lab-fault.conf"
_RELOAD = "kill -HUP $(cat /run/sshd.pid)"
_HOME = "/home/pi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What it does, in words and in deed; ``undo`` is the name of the fault that mends it."""

    text: str
    action: Action
    undo: str | None
    options: tuple[str, ...] = ()


def inject(machine: Machine, name: str, options: dict[str, float] | None = None) -> Fault:
    """Do it, and give it.

    Raises:
        LabError: no such fault or option.
    """
    fault = FAULTS.get(name)
    if fault is None:
        raise LabError(f"there is no fault {name!r}", hint="faults: " + ", ".join(FAULTS))
    wrong = sorted(set(options or {}) - set(fault.options))
    if wrong:
        known = ", ".join(fault.options) or "none"
        raise LabError(f"{name} has no option {wrong[0]!r}", hint=f"its options: {known}")
    fault.action(machine, options or {})
    return fault


def _shell(command: str) -> Action:
    def action(machine: Machine, options: dict[str, float]) -> None:
        words = " ".join(f"{key}={value:.0f};" for key, value in options.items())
        machine.root(f"{words} {command}", timeout_s=120)

    return action


def _sshd(setting: str) -> Action:
    return _shell(f"echo '{setting}' > {_SSHD}; {_RELOAD}")


def _slow(machine: Machine, options: dict[str, float]) -> None:
    machine.network(
        delay_ms=options.get("delay_ms", 200), loss_percent=options.get("loss_percent", 1)
    )


def _throttle(machine: Machine, options: dict[str, float]) -> None:
    board = boards.board(machine.board)
    machine.set(cap_mhz=options.get("mhz", board.steps_mhz[0]))
    if board.firmware:  # capped and throttled, now and since boot
        machine.set(throttled=0x60006)


def _unthrottle(machine: Machine, _: dict[str, float]) -> None:
    machine.set(cap_mhz=0)
    if boards.board(machine.board).firmware:
        machine.set(throttled=0x60000)  # the firmware remembers until the next boot


def _hot(machine: Machine, options: dict[str, float]) -> None:
    machine.set(temperature_c=options.get("celsius", 88))


def _cool(machine: Machine, _: dict[str, float]) -> None:
    machine.set(temperature_c=boards.board(machine.board).temperature_c)


def _power_cut(machine: Machine, options: dict[str, float]) -> None:
    time.sleep(options.get("after_s", 0))
    machine.kill()


_BALLAST = (
    'avail=$(df -k --output=avail / | tail -1); fallocate -l "$((avail - ${left_kib:-0}))K"'
    " /var/lib/edgeq-lab-ballast"
)
_EAT = (
    "mkdir -p /run/edgeq-lab/eaten; mount -t tmpfs -o size=100% eaten /run/edgeq-lab/eaten;"
    " avail=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo);"
    ' head -c "$((avail - ${left_mib:-64} * 1024))K" /dev/zero > /run/edgeq-lab/eaten/ballast'
)
_BUSY = (
    "for cpu in $(seq $(nproc)); do setsid sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 &"
    " echo $! >> /run/edgeq-lab/busy; done"
)
_AWAY = "for f in /usr/bin/python3*; do mv $f /usr/lib/edgeq-lab/away-${f##*/}; done"
_BACK = "for f in /usr/lib/edgeq-lab/away-*; do mv $f /usr/bin/${f##*/away-}; done"
# Linux refuses a wall clock that is behind its uptime: the month leaves room.
_1970_NS = 30 * 24 * 3600 * 10**9
_NOISE = "echo 'Welcome to the lab'; echo 'no mail' >&2"

FAULTS: dict[str, Fault] = {
    "link-down": Fault(
        text="the network cable is out; connections starve",
        action=lambda machine, _: machine.link(False),
        undo="link-up",
    ),
    "link-up": Fault(
        text="the network cable is in", action=lambda machine, _: machine.link(True), undo=None
    ),
    "slow": Fault(
        text="round trips take 200 ms longer, 1 % of the packets are lost each way",
        action=_slow,
        undo="fast",
        options=("delay_ms", "loss_percent"),
    ),
    "fast": Fault(
        text="the network is as it was", action=lambda machine, _: machine.network(), undo=None
    ),
    "power-cut": Fault(
        text="the power is cut; what was not flushed is lost",
        action=_power_cut,
        undo="power-on",
        options=("after_s",),
    ),
    "power-on": Fault(
        text="it booted from its disk", action=lambda machine, _: machine.start(), undo=None
    ),
    "reset": Fault(
        text="it was reset without sync, and booted",
        action=lambda machine, _: machine.reset(),
        undo=None,
    ),
    "freeze": Fault(
        text="it stands still, clocks too; it takes connections and does not answer",
        action=lambda machine, _: machine.freeze(),
        undo="thaw",
    ),
    "thaw": Fault(text="it goes on", action=lambda machine, _: machine.thaw(), undo=None),
    "fill-disk": Fault(
        text="the disk is full", action=_shell(_BALLAST), undo="free-disk", options=("left_kib",)
    ),
    "free-disk": Fault(
        text="the disk has room", action=_shell("rm -f /var/lib/edgeq-lab-ballast"), undo=None
    ),
    "eat-memory": Fault(
        text="64 MiB of memory are left",
        action=_shell(_EAT),
        undo="free-memory",
        options=("left_mib",),
    ),
    "free-memory": Fault(
        text="the memory is free", action=_shell("umount /run/edgeq-lab/eaten"), undo=None
    ),
    "clock-1970": Fault(
        text="the wall clock says 1970",
        action=lambda machine, _: machine.clock(_1970_NS),
        undo="clock-right",
    ),
    "clock-right": Fault(
        text="the wall clock is right", action=lambda machine, _: machine.clock(), undo=None
    ),
    "hot": Fault(text="it is 88 degrees", action=_hot, undo="cool", options=("celsius",)),
    "cool": Fault(text="it has its usual temperature", action=_cool, undo=None),
    "throttle": Fault(
        text="its processor is held at a low frequency",
        action=_throttle,
        undo="unthrottle",
        options=("mhz",),
    ),
    "unthrottle": Fault(
        text="its processor is free; a Raspberry Pi remembers until it boots",
        action=_unthrottle,
        undo=None,
    ),
    "busy": Fault(
        text="another process hogs every core",
        action=_shell(_BUSY),
        undo="idle",
    ),
    "idle": Fault(
        text="nothing hogs the cores",
        action=_shell("kill $(cat /run/edgeq-lab/busy); rm /run/edgeq-lab/busy"),
        undo=None,
    ),
    "no-python": Fault(
        text="python3 is gone",
        action=_shell(_AWAY),
        undo="python",
    ),
    "python": Fault(
        text="python3 is there",
        action=_shell(_BACK),
        undo=None,
    ),
    "noexec-home": Fault(
        text="programs in the home folder cannot run",
        action=_shell(f"mount --bind {_HOME} {_HOME}; mount -o remount,bind,noexec {_HOME}"),
        undo="home",
    ),
    "read-only-home": Fault(
        text="the home folder cannot be written",
        action=_shell(f"mount --bind {_HOME} {_HOME}; mount -o remount,bind,ro {_HOME}"),
        undo="home",
    ),
    "home": Fault(
        text="the home folder is as it was", action=_shell(f"umount -l {_HOME}"), undo=None
    ),
    "one-session": Fault(
        text="sshd gives one session per connection", action=_sshd("MaxSessions 1"), undo="sshd"
    ),
    "banner": Fault(
        text="sshd greets with a banner", action=_sshd("Banner /etc/os-release"), undo="sshd"
    ),
    "no-sftp": Fault(
        text="sshd has no sftp",
        action=_shell(f"sed -i 's,^Subsystem,#Subsystem,' /etc/ssh/sshd_config; {_RELOAD}"),
        undo="sshd",
    ),
    "sshd": Fault(
        text="sshd is as it was",
        action=_shell(
            f"rm -f {_SSHD}; sed -i 's,^#Subsystem,Subsystem,' /etc/ssh/sshd_config; {_RELOAD}"
        ),
        undo=None,
    ),
    "noisy-shell": Fault(
        text=".bashrc talks at every login",
        action=_shell(f'sed -i "1i {_NOISE}" {_HOME}/.bashrc'),
        undo="quiet-shell",
    ),
    "quiet-shell": Fault(
        text=".bashrc is silent", action=_shell(f"sed -i 1d {_HOME}/.bashrc"), undo=None
    ),
}
