"""The base disk of all boards of one architecture and Debian release."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import cache, debian, linux
from tests.lab.errors import LabError

HERE = Path(__file__).resolve().parent
USER = "pi"
_SIZE_MIB = 4096
_ESSENTIAL = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils"),
    *("findutils", "grep", "gzip", "hostname", "libc-bin", "libpam-modules", "libpam-runtime"),
    *("login", "mawk", "mount", "passwd", "sed", "tar", "util-linux"),
)
_DEVICE = (
    *("openssh-server", "openssh-sftp-server", "python3", "sudo"),
    *("procps", "iproute2", "kmod"),
    "libstdc++6",  # each board's system has it, and NumPy and the runtimes need it
)
# Raspberry Pi OS and JetPack bring it; for 32-bit ARM there is no other current one.
_MORE = {"armhf": ["python3-numpy"]}


def client_key() -> Path:
    """The private key that all machines let in; made once."""

    def make(draft: Path) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgeq-lab"]
        subprocess.run([*command, "-f", draft / "id_ed25519"], check=True)

    return cache.made(cache.home() / "key", make) / "id_ed25519"


def image(architecture: str, suite: str) -> Path:
    """A folder with rootfs.ext4, and the kernel it fits, built if they are not there."""
    return cache.made(folder(architecture, suite), lambda draft: _build(draft, architecture, suite))


def folder(architecture: str, suite: str) -> Path:
    """Where the image made of today's sources lies."""
    sources = [HERE / "rootfs.py", HERE / "guest", Path(__file__)]
    public_key = client_key().with_suffix(".pub").read_text()
    kernel = linux.folder(architecture).name
    key = cache.content_key(kernel, suite, public_key, *sources)
    return cache.home() / f"image-{suite}-{architecture}-{key}"


def _build(draft: Path, architecture: str, suite: str) -> None:
    kernel = linux.kernel(architecture)
    archive = debian.Archive(suite=suite, architecture=architecture)
    archive.update()
    cache.say(f"{architecture}: fetching Debian {suite}")
    packages = archive.install_set([*_ESSENTIAL, *_DEVICE, *_MORE.get(architecture, [])])
    cache.say(f"{architecture}: unpacking {len(packages)} packages")
    plan = {
        "packages": [str(path) for path in packages],
        "root": str(draft / "root"),
        "image": str(draft / "rootfs.ext4"),
        "kernel": str(kernel),
        "public_key": str(client_key().with_suffix(".pub")),
        "guest": str(HERE / "guest"),
        "user": USER,
        "size_mib": _SIZE_MIB,
    }
    (draft / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, "-m", "tests.lab.rootfs", str(draft / "plan.json")]
    if os.geteuid() != 0:
        command = ["fakeroot", "--", *command]
    ended = subprocess.run(
        command, cwd=HERE.parent.parent, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise LabError(f"the root file system cannot be made: {ended.stderr[-3000:]}")
    shutil.rmtree(draft / "root")
    for name in ("vmlinuz", "initrd.gz", "version"):
        os.link(kernel / name, draft / name)
    used = (draft / "rootfs.ext4").stat().st_blocks * 512 >> 20
    cache.say(f"{architecture}: root file system ready, {used} MiB")
