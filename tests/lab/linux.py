"""Debian's kernel for a board, the drivers it leaves out, and an initramfs that mounts the disk."""

import gzip
import io
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache, debian
from tests.lab.errors import LabError

HERE = Path(__file__).resolve().parent
_SOURCES = HERE / "kernel"
_SUITE = "bookworm"
_LINUX = "6.1"
# Drivers that Debian's kernels leave out, built from Debian's own source of the same version.
_FROM_DEBIAN = (
    "drivers/hwmon/ina2xx.c",
    "drivers/hwmon/ina3221.c",
    "drivers/power/supply/test_power.c",
)
_OWN = ("edge_sim", "edge_i2c")
# What a device under test can need; the rest of Debian's 300 MB of modules stays out.
_KEPT = (
    "drivers/i2c/",
    "drivers/hwmon/",
    "drivers/virtio/",
    "drivers/net/virtio_net",
    "drivers/net/net_failover",
    "drivers/net/ifb",
    "drivers/block/",
    "drivers/char/virtio_console",
    "drivers/char/hw_random/",
    "drivers/cpufreq/",
    "drivers/thermal/",
    "drivers/rtc/",
    "drivers/regmap/",
    "drivers/base/",
    "fs/ext4/",
    "fs/jbd2/",
    "fs/mbcache",
    "fs/overlayfs/",
    "crypto/",
    "lib/",
    "net/core/failover",
    "net/sched/",
)
_TO_MOUNT = ("crc32c_generic", "virtio_pci", "virtio_mmio", "virtio_blk", "ext4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """One of Debian's kernels and how to build for it."""

    package: str
    make_arch: str
    compiler: str


FLAVOURS = {
    "arm64": Flavour(package="linux-image-arm64", make_arch="arm64", compiler="aarch64-linux-gnu-"),
    "armhf": Flavour(
        package="linux-image-armmp-lpae", make_arch="arm", compiler="arm-linux-gnueabihf-"
    ),
}


def kernel(architecture: str) -> Path:
    """A folder with vmlinuz, initrd.gz, version and lib/modules, built if it is not there."""
    return cache.made(folder(architecture), lambda draft: _build(draft, architecture))


def folder(architecture: str) -> Path:
    """Where the kernel made of today's sources lies."""
    key = cache.content_key(architecture, _SOURCES, HERE / "guest/initrd-init", Path(__file__))
    return cache.home() / f"kernel-{architecture}-{key}"


def _build(draft: Path, architecture: str) -> None:
    flavour = FLAVOURS[architecture]
    archive = debian.Archive(suite=_SUITE, architecture=architecture)
    archive.update()
    image = archive.depends(flavour.package)
    release = image.removeprefix("linux-image-")
    cache.say(f"{architecture}: Debian's kernel {release}")
    work = draft / "work"
    image_deb, busybox_deb = archive.only([image, "busybox-static"])
    for package in (image_deb, busybox_deb):
        debian.unpack(package, work)
    shutil.copyfile(next((work / "boot").glob("vmlinuz-*")), draft / "vmlinuz")
    (draft / "version").write_text(release)
    modules = draft / "lib/modules" / release
    _keep_modules(work / "lib/modules" / release, modules)
    cache.say(f"{architecture}: building the drivers that it lacks")
    _build_drivers(archive, flavour, release, work=work, out=modules / "extra")
    subprocess.run(["depmod", "-b", draft, release], check=True)
    _initrd(draft, release, next(work.glob("bin/busybox")))
    shutil.rmtree(work)
    cache.say(f"{architecture}: kernel and drivers are ready")


def _keep_modules(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.rglob("*.ko"):
        name = path.relative_to(source)
        if any(str(name).startswith(f"kernel/{kept}") for kept in _KEPT):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
    for path in (*source.glob("modules.builtin*"), source / "modules.order"):
        shutil.copyfile(path, target / path.name)


def _build_drivers(
    archive: debian.Archive, flavour: Flavour, release: str, *, work: Path, out: Path
) -> None:
    abi = release.split("-")
    common = f"linux-headers-{abi[0]}-{abi[1]}-common"
    headers = f"linux-headers-{release}"
    # Programs of the build run here, so they are of this host's architecture.
    kbuild = f"linux-kbuild-{_LINUX}:{debian.host_architecture()}"
    source = f"linux-source-{_LINUX}"
    *packages, source_deb = archive.only([headers, common, kbuild, source])
    for package in packages:
        debian.unpack(package, work)
    tree = work / "usr/src" / headers
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/linux", f"{work}/usr/src/linux"))
    build = work / "drivers"
    shutil.copytree(_SOURCES, build)
    _debian_drivers(source_deb, build)
    names = [Path(name).stem for name in _FROM_DEBIAN] + list(_OWN)
    (build / "Makefile").write_text("obj-m := " + " ".join(f"{name}.o" for name in names) + "\n")
    command = ["make", "-s", f"-j{os.cpu_count()}", "-C", tree, f"M={build}"]
    command += [f"ARCH={flavour.make_arch}", f"CROSS_COMPILE={flavour.compiler}", "modules"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise LabError(f"the drivers do not build: {(ended.stdout + ended.stderr)[-3000:]}")
    out.mkdir(parents=True)
    for name in names:
        strip = [f"{flavour.compiler}strip", "--strip-debug", "-o", out / f"{name}.ko"]
        subprocess.run([*strip, build / f"{name}.ko"], check=True)


def _debian_drivers(package: Path, build: Path) -> None:
    """Take the few files out of the 130 MB of source."""
    wanted = {f"linux-source-{_LINUX}/{name}": Path(name).name for name in _FROM_DEBIAN}
    inside = f"./usr/src/linux-source-{_LINUX}.tar.xz"
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as deb,
        tarfile.open(fileobj=deb.stdout, mode="r|") as outer,
    ):
        member = next(member for member in outer if member.name == inside)
        packed = outer.extractfile(member)
        assert packed is not None
        with tarfile.open(fileobj=lzma.open(packed), mode="r|") as tree:
            for entry in tree:
                if entry.name in wanted:
                    file = tree.extractfile(entry)
                    assert file is not None
                    text = file.read().decode()
                    (build / wanted.pop(entry.name)).write_text(_adapted(text))
                if not wanted:
                    break
        deb.kill()
    if wanted:
        raise LabError(f"{package.name} lacks {', '.join(wanted)}")


def _adapted(source: str) -> str:
    """Debian's source with other names of test_power's supplies, and without tables of aliases."""
    for name in ("battery", "ac", "usb"):  # as Android and laptops call them
        source = source.replace(f'"test_{name}"', f'"{name}"')
    # Only for loading by itself, and the host's modpost knows their size for 64-bit kernels only.
    return re.sub(r"^MODULE_DEVICE_TABLE\(.*\);$", "", source, flags=re.MULTILINE)


def _initrd(draft: Path, release: str, busybox: Path) -> None:
    """Busybox and the modules of the root disk, as a gzipped cpio archive."""
    files = {"bin/busybox": (busybox.read_bytes(), 0o755)}
    order: list[str] = []
    for name in _TO_MOUNT:
        asked = subprocess.run(
            ["modprobe", "-d", draft, "-S", release, "--show-depends", name],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in asked.stdout.splitlines():
            if line.startswith("insmod "):
                path = Path(line.split()[1])
                if path.name not in order:
                    order.append(path.name)
                    files[f"mod/{path.name}"] = (path.read_bytes(), 0o644)
    script = (HERE / "guest/initrd-init").read_text().replace("@MODULES@", " ".join(order))
    files["init"] = (script.encode(), 0o755)
    (draft / "initrd.gz").write_bytes(gzip.compress(cpio(files), 9, mtime=0))


def cpio(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A "newc" archive, the form the kernel reads: Documentation/driver-api/early-userspace."""
    out = io.BytesIO()
    folders = ["bin", "dev", "proc", "sys", "mnt", "mod"]
    entries = [(name, b"", stat.S_IFDIR | 0o755) for name in folders]
    entries += [(name, data, stat.S_IFREG | mode) for name, (data, mode) in files.items()]
    for number, (name, data, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)]):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + path)
        out.write(b"\0" * (-out.tell() % 4) + data)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()
