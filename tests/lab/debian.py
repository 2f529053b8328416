"""Debian's packages of another architecture, fetched and unpacked without installing anything."""

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"
_LISTS_LAST_S = 24 * 3600
# What the lab runs on the host, and Debian's package that has it.
PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "fakeroot": "fakeroot",
    "mkfs.ext4": "e2fsprogs",
    "depmod": "kmod",
    "make": "make",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
    "fdtput": "device-tree-compiler",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def missing() -> list[str]:
    """Debian's packages that the lab runs and this host lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path  # a plain user's PATH lacks mkfs.ext4 and depmod
    packages = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not _KEYRING.exists():
        packages.add("debian-archive-keyring")
    return sorted(packages)


def require() -> None:
    """Check that the host has the lab's programs.

    Raises:
        LabError: with the one command that installs what is missing.
    """
    packages = " ".join(missing())
    if packages:
        raise LabError(
            f"the lab needs Debian packages that are not installed: {packages}",
            hint=f"sudo apt-get install --no-install-recommends {packages}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An apt of the lab's own for one release and architecture; the host's stays as it is."""

    suite: str
    architecture: str

    @property
    def folder(self) -> Path:
        return cache.home() / "apt" / f"{self.suite}-{self.architecture}"

    def install_set(self, packages: list[str]) -> list[Path]:
        """The packages with all they depend on, as downloaded files."""
        return self._fetched(["install", "--no-install-recommends", *packages])

    def only(self, packages: list[str]) -> list[Path]:
        """Just these packages, as downloaded files in this order."""
        files = self._fetched(["download", *packages])
        names = [package.partition(":")[0] for package in packages]
        return [next(file for file in files if file.name.startswith(f"{name}_")) for name in names]

    def depends(self, package: str) -> str:
        """The first package that ``package`` depends on."""
        text = self._run(["apt-cache", "depends", package])
        for line in text.splitlines():
            name = line.strip()
            if name.startswith("Depends: "):
                return name.removeprefix("Depends: ")
        raise LabError(f"{self.suite} has no package {package} for {self.architecture}")

    def update(self) -> None:
        """Fetch the lists of packages, once a day."""
        stamp = self.folder / "updated"
        with cache.locked(self.folder / "lock"):
            if stamp.exists() and time.time() - stamp.stat().st_mtime < _LISTS_LAST_S:
                return
            for name in ("lists/partial", "archives/partial"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            (self.folder / "status").touch()
            (self.folder / "apt.conf").write_text(self._configuration())
            try:
                self._update(security=True)
            except LabError as error:
                self._without_security(error)
            stamp.touch()

    def _without_security(self, error: LabError) -> None:
        """A mirror's security part may be out of step; the release itself never changes."""
        cache.say(f"{self.suite} without its security updates: {str(error)[:200]}")
        self._update(security=False)

    def _update(self, *, security: bool) -> None:
        (self.folder / "debian.sources").write_text(self._sources(security=security))
        self._run(["apt-get", "-qq", "update"])

    def _fetched(self, command: list[str]) -> list[Path]:
        with cache.locked(self.folder / "lock"):
            try:
                return self._download(command)
            except LabError as error:
                if "-security" not in (self.folder / "debian.sources").read_text():
                    raise
                self._without_security(error)
                return self._download(command)

    def _download(self, command: list[str]) -> list[Path]:
        archives = self.folder / "archives"
        with tempfile.TemporaryDirectory() as nothing:
            (Path(nothing) / "partial").mkdir()
            asked = self._run(
                [
                    "apt-get",
                    "-qq",
                    "--print-uris",
                    "-o",
                    f"Dir::Cache::archives={nothing}",
                    *command,
                ]
            )
            names = [line.split()[1] for line in asked.splitlines() if line.startswith("'")]
            if any(not (archives / name).exists() for name in names):
                quiet = ["apt-get", "-qq", "-y", "--download-only", *command]
                self._run(quiet, folder=archives)
        return [archives / name for name in names]

    def _run(self, command: list[str], folder: Path | None = None) -> str:
        environment = os.environ | {"APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        ended = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            raise LabError(
                f"{' '.join(command[:3])} failed: {ended.stderr.strip()[-2000:]}",
                hint="the lab needs a Debian mirror within reach",
            )
        return ended.stdout

    def _configuration(self) -> str:
        host = host_architecture()
        architectures = " ".join(f'"{name}";' for name in dict.fromkeys((self.architecture, host)))
        return f"""APT::Architecture "{self.architecture}";
APT::Architectures {{ {architectures} }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State::Lists "{self.folder}/lists";
Dir::State::status "{self.folder}/status";
Dir::Cache "{self.folder}";
Dir::Cache::archives "{self.folder}/archives";
Dir::Etc::sourcelist "{self.folder}/debian.sources";
Dir::Etc::sourceparts "-";
Dir::Log "{self.folder}";
"""

    def _sources(self, *, security: bool) -> str:
        mirrors = host_mirrors()
        uris = {self.suite: mirrors.get(self.suite, _MIRROR)}
        if security:
            name = f"{self.suite}-security"
            uris[name] = mirrors.get(name, _SECURITY)
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n"
            for suite, uri in uris.items()
        )


def host_mirrors() -> dict[str, str]:
    """The mirrors that this host's apt uses, by release: a closed network has its own."""
    ended = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    pairs = [line.split() for line in ended.stdout.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def host_architecture() -> str:
    ended = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    return ended.stdout.strip()


def unpack(package: Path, folder: Path, exclude: tuple[str, ...] = ()) -> None:
    """A package's files into a folder; directories that are links there stay links."""
    folder.mkdir(parents=True, exist_ok=True)
    tar = ["tar", "-C", str(folder), "--keep-directory-symlink", "-xpf", "-"]
    tar += [f"--exclude={pattern}" for pattern in exclude]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as deb:
        subprocess.run(tar, stdin=deb.stdout, check=True)
    if deb.returncode != 0:
        raise LabError(f"{package.name} cannot be unpacked")
