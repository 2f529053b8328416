"""A phone without hardware: ``adbd.py`` in a root of its own, with Android's folders and programs.

The root is a mount namespace: /data is a tmpfs of a chosen size, /sys a folder that the test
writes, /system/bin holds mksh and toybox, which are Android's own shell and commands, and
stand-ins for getprop and dumpsys. Where those two are not installed, this machine's /bin/sh and
commands stand in, and ``userland`` says so.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ADBD = Path(__file__).with_name("adbd.py")
FOLDER = "data/local/tmp/edgeq"
_START_S = 20.0
_SETUP = r"""
set -e
root=$1 sys=$2 system=$3 size=$4; shift 4
mount -t tmpfs none "$root"
for folder in /*; do
  case $folder in /sys | /data | /system) continue ;; esac
  if [ -L "$folder" ]; then cp -P "$folder" "$root/"
  elif [ -d "$folder" ]; then mkdir "$root$folder"; mount --rbind "$folder" "$root$folder"; fi
done
mkdir "$root/sys" "$root/system" "$root/data"
mount --bind "$sys" "$root/sys"
mount --bind "$system" "$root/system"
case $size in
  /*) mount --bind "$size" "$root/data" ;;
  *) mount -t tmpfs -o "size=$size" none "$root/data" ;;
esac
mkdir -p "$root/data/local/tmp"
exec chroot "$root" "$@"
"""
_GETPROP = """#!/system/bin/sh
while IFS='=' read -r key value; do
  [ "$key" = "$1" ] && { echo "$value"; exit 0; }
done < /system/props
echo
"""
_DUMPSYS = """#!/system/bin/sh
[ -e "/system/dumpsys.$1" ] || { echo "Can't find service: $1" >&2; exit 1; }
while IFS= read -r line; do echo "$line"; done < "/system/dumpsys.$1"
"""
PROPS = {
    "ro.product.manufacturer": "edgeq",
    "ro.product.model": "Lab Phone",
    "ro.build.version.release": "14",
    "ro.product.cpu.abi": "x86_64",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What kind of phone.

    Attributes:
        serial: ``ro.serialno``; empty: it tells none.
        data_size: Of /data, as mount takes it; or a folder that is it, and outlives the phone.
        vanish_after: Bytes received after which it is gone for good.
        port: Where it listens; None: a free one.
    """

    serial: str = "LAB0001"
    auth: str = "none"
    model: str = "edgeq_phone"
    data_size: str = "200m"
    vanish_after: int | None = None
    port: int | None = None
    props: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A running phone. ``folder/sys`` is its /sys, ``folder/system`` its /system."""

    folder: Path
    port: int
    pid: int

    @property
    def address(self) -> str:
        """As adb calls it."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Its /data, seen from outside."""
        return Path(f"/proc/{self.pid}/root/data")

    @property
    def edgeq(self) -> Path:
        return Path(f"/proc/{self.pid}/root/{FOLDER}")

    def battery(self, **values: object) -> None:
        """Set files of the battery's gauge."""
        write_battery(self.folder / "sys", values)

    def dumpsys(self, service: str, text: str) -> None:
        (self.folder / "system" / f"dumpsys.{service}").write_text(text)

    def kill(self) -> None:
        """Pull its cable."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it hang: the connection stands, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)


def userland() -> str:
    """What the phone's commands are."""
    if shutil.which("mksh") and shutil.which("toybox"):
        return "mksh and toybox, as Android has them"
    return "this machine's sh and commands: mksh and toybox are not installed"


def write_battery(sys_folder: Path, values: Mapping[str, object]) -> None:
    supply = sys_folder / "class" / "power_supply" / "battery"
    supply.mkdir(parents=True, exist_ok=True)
    for name, value in {"type": "Battery", **values}.items():
        (supply / name).write_text(f"{value}\n")


@contextlib.contextmanager
def running(folder: Path, options: Options | None = None) -> Iterator[Phone]:
    """A phone, gone afterwards."""
    options = options or Options()
    for name in ("root", "sys", "system/bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _furnish(folder / "system", options)
    port = options.port or free_port()
    words = [sys.executable, str(ADBD), str(port), "--auth", options.auth]
    words += ["--model", options.model]
    if options.vanish_after is not None:
        words += ["--vanish-after", str(options.vanish_after)]
    words += ["--shell", "/system/bin/sh -c"]
    setup = ["sh", "-c", _SETUP, "sh", str(folder / "root"), str(folder / "sys")]
    setup += [str(folder / "system"), options.data_size, *words]
    with (folder / "adbd.log").open("wb") as log:
        child = subprocess.Popen(
            ["unshare", *_namespace(), *setup],
            env={"PATH": "/system/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        _wait(child, folder / "adbd.log")
        yield Phone(folder=folder, port=port, pid=child.pid)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _namespace() -> list[str]:
    """A mount namespace; in a user namespace where this user may not mount."""
    plain = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    return ["--mount"] if plain.returncode == 0 else ["--user", "--map-root-user", "--mount"]


def _furnish(system: Path, options: Options) -> None:
    bin_ = system / "bin"
    mksh, toybox = shutil.which("mksh"), shutil.which("toybox")
    (bin_ / "sh").symlink_to(mksh if mksh and toybox else "/bin/sh")
    if mksh and toybox:
        names = subprocess.run([toybox], check=True, capture_output=True, text=True).stdout.split()
        for name in names:
            (bin_ / name).symlink_to(toybox)
    for name, text in (("getprop", _GETPROP), ("dumpsys", _DUMPSYS)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    props = {**PROPS, "ro.serialno": options.serial, **options.props}
    lines = [f"{key}={value}" for key, value in props.items()]
    (system / "props").write_text("\n".join(lines) + "\n")


def _wait(child: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until it listens."""
    line = child.stdout.readline()
    end = time.monotonic() + _START_S
    while not line and child.poll() is None and time.monotonic() < end:
        line = child.stdout.readline()
    if not line.startswith(b"adbd on"):
        raise RuntimeError(f"the phone does not start: {log.read_text()[-2000:]}")
