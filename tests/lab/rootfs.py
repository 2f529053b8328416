"""Makes a root file system; runs under fakeroot, so that files can belong to root without root.

    fakeroot python -m tests.lab.rootfs PLAN.json

No program of the image is run: packages are unpacked, and the few effects of their scripts that
matter are written here by hand. So the host needs neither emulation of programs nor chroot.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import debian

_LEFT_OUT = tuple(f"./usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "lintian"))
_UID = 1000
_SSHD = """UseDNS no
GSSAPIAuthentication no
X11Forwarding no
PrintMotd no
HostKey /etc/ssh/ssh_host_ed25519_key
"""
_PAM = {
    "auth": "required pam_unix.so nullok",
    "account": "required pam_unix.so",
    "password": "required pam_unix.so obscure yescrypt",
    "session": "required pam_unix.so",
}


def build(root: Path, plan: dict) -> None:
    """Fill ``root``: packages, kernel modules, users, and the lab's own programs."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in plan["packages"]:
        debian.unpack(Path(package), root, exclude=_LEFT_OUT)
    shutil.copytree(plan["kernel"] + "/lib", root / "usr/lib", dirs_exist_ok=True)
    _folders(root)
    _accounts(root, plan["user"])
    _settings(root)
    _ssh(root, plan["user"], Path(plan["public_key"]))
    _alternatives(root)
    _programs(root, Path(plan["guest"]))
    _bytecode(root)


def _folders(root: Path) -> None:
    for name in (
        "root",
        "home",
        "proc",
        "sys",
        "dev",
        "run",
        "mnt",
        "var/log",
        "var/lib",
        "etc/edgeq-lab",
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o1777)


def _accounts(root: Path, user: str) -> None:
    masters = root / "usr/share/base-passwd"
    people = (masters / "passwd.master").read_text()
    people += "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
    people += f"{user}:x:{_UID}:{_UID}:,,,:/home/{user}:/bin/bash\n"
    groups = (masters / "group.master").read_text().replace("sudo:*:27:", f"sudo:*:27:{user}")
    groups = groups.replace("video:*:44:", f"video:*:44:{user}")
    groups += f"i2c:x:107:{user}\n{user}:x:{_UID}:\n"
    etc = root / "etc"
    (etc / "passwd").write_text(people)
    (etc / "group").write_text(groups)
    # "*": nobody can log in with a password, and sshd does not take the account for locked.
    names = [line.split(":")[0] for line in people.splitlines()]
    _write(etc / "shadow", "".join(f"{name}:*:19000:0:99999:7:::\n" for name in names), 0o600)
    names = [line.split(":")[0] for line in groups.splitlines()]
    _write(etc / "gshadow", "".join(f"{name}:*::\n" for name in names), 0o600)
    _write(etc / f"sudoers.d/010_{user}-nopasswd", f"{user} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    (etc / "sudoers").chmod(0o440)  # as sudo's own script does
    home = root / "home" / user
    shutil.copytree(root / "etc/skel", home)
    for path in (home, *home.iterdir()):
        os.chown(path, _UID, _UID)


def _settings(root: Path) -> None:
    etc = root / "etc"
    (etc / "hostname").write_text("lab\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 lab\n")
    (etc / "fstab").write_text("/dev/vda / ext4 defaults,noatime 0 1\n")
    (etc / "machine-id").touch()
    (etc / "mtab").unlink(missing_ok=True)
    (etc / "mtab").symlink_to("../proc/self/mounts")
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    for name in ("profile", "nsswitch.conf"):
        source = root / "usr/share/base-files" / name
        if source.exists() and not (etc / name).exists():
            shutil.copyfile(source, etc / name)
    for kind, rule in _PAM.items():
        (etc / f"pam.d/common-{kind}").write_text(f"{kind} {rule}\n")
    (etc / "pam.d/common-session-noninteractive").write_text(f"session {_PAM['session']}\n")


def _ssh(root: Path, user: str, public_key: Path) -> None:
    etc = root / "etc/ssh"
    shutil.copyfile(root / "usr/share/openssh/sshd_config", etc / "sshd_config")
    _write(etc / "sshd_config.d/edgeq-lab.conf", _SSHD, 0o644)
    folder = root / "home" / user / ".ssh"
    folder.mkdir()
    folder.chmod(0o700)
    _write(folder / "authorized_keys", public_key.read_text(), 0o600)
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, _UID, _UID)


def _alternatives(root: Path) -> None:
    """What update-alternatives would link."""
    (root / "usr/bin/awk").symlink_to("mawk")
    libraries = (*root.glob("usr/lib/*/blas/lib*.so.3"), *root.glob("usr/lib/*/lapack/lib*.so.3"))
    for library in libraries:
        link = library.parent.parent / library.name
        link.unlink(missing_ok=True)
        link.symlink_to(f"{library.parent.name}/{library.name}")


def _programs(root: Path, guest: Path) -> None:
    own = root / "usr/lib/edgeq-lab"
    own.mkdir()
    for path in guest.iterdir():
        if path.is_file() and path.name not in ("initrd-init", "edge-init", "reboot"):
            _write(own / path.name, path.read_text(), 0o755)
    _write(root / "usr/sbin/edge-init", (guest / "edge-init").read_text(), 0o755)
    for name in ("reboot", "poweroff"):
        _write(root / "usr/sbin" / name, (guest / "reboot").read_text(), 0o755)
    python = next(path for path in sorted((root / "usr/bin").glob("python3.*")) if path.is_file())
    os.link(python, own / "python")


def _bytecode(root: Path) -> None:
    """Compile the standard library, if this host has a Python of the same version."""
    library = next(root.glob("usr/lib/python3.*[0-9]"))
    python = shutil.which(library.name)
    if python:
        command = [python, "-m", "compileall", "-q", "-j0", "-s", root, library]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    root = Path(plan["root"])
    root.mkdir(mode=0o755)
    build(root, plan)
    image = Path(plan["image"])
    with image.open("wb") as file:
        file.truncate(plan["size_mib"] << 20)
    # With a journal, as on a real card: what a power cut leaves depends on it.
    options = ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"]
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, "-d", root, image], check=True)


if __name__ == "__main__":
    main()
