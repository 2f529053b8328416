import struct
import zipfile

import pytest

from edgeq.core.machine import Facts, PythonFacts


@pytest.fixture
def facts():
    """Facts of a Raspberry Pi 4 with bookworm; changes by keyword."""

    def make(**changes):
        fields = {
            "system": "Linux",
            "architecture": "aarch64",
            "kernel": "6.1",
            "os": "Debian GNU/Linux 12 (bookworm)",
            "model": "Raspberry Pi 4 Model B Rev 1.4",
            "cpu": "Cortex-A72",
            "cores": 4,
            "memory_mib": 1848.0,
            "disk_free_mib": 10_000.0,
            "libc": "glibc",
            "libc_version": "2.36",
            "home": "/home/pi",
            "root": "/home/pi/.edgeq",
            "user": "pi",
            "pythons": (python(),),
            "wall_time_s": 1.0,
        }
        return Facts(**{**fields, **changes})

    return make


def python(minor=11, path="/usr/bin/python3", **changes):
    return PythonFacts(path=path, version=(3, minor, 2), **changes)


def write_wheel(folder, name, members, glibc=None):
    """A wheel; ``glibc`` puts a library into it that asks for this version."""
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
        if glibc:
            versions = b"\0".join(f"GLIBC_{word}".encode() for word in ("2.17", glibc))
            library = b"\x7fELF" + struct.pack("<I", 7) + b"\0" + versions + b"\0GLIBCXX_3.4.30\0"
            archive.writestr(zipfile.ZipInfo(f"{name.split('-')[0]}/lib.so"), library)
    return path


class Index:
    """A recorded listing: what pip finds, by requirement, in place of the network."""

    def __init__(self, folder, listing):
        self.folder = folder
        self.listing = listing
        self.asked = []

    def __call__(self, requirement, target, folder):
        from packaging.requirements import Requirement
        from packaging.version import Version

        self.asked.append(requirement)
        wanted = Requirement(requirement)
        fitting = [
            (name, glibc)
            for name, glibc in self.listing
            if name.startswith(wanted.name.replace("-", "_") + "-")
            and target.takes(name)
            and wanted.specifier.contains(name.split("-")[1])
        ]
        if not fitting:
            return None
        name, glibc = max(fitting, key=lambda entry: Version(entry[0].split("-")[1]))
        package, version = name.split("-")[:2]
        members = {
            f"{package}/__init__.py": f"__version__ = {version!r}\n",
            f"{package}-{version}.dist-info/METADATA": f"Name: {package}\nVersion: {version}\n",
        }
        return write_wheel(folder, name, members, glibc)
