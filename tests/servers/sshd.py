"""A real OpenSSH server on loopback, run by whoever runs the tests: a device with its own HOME."""

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.hostkey import HostKey
from edgeq.core.inventory import Device

_START_LIMIT_S = 10.0
_SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What kind of server.

    Attributes:
        key_types: Of its host keys, as for ``ssh-keygen -t``.
        banner: Shown before the log-in.
        noise: What the login shell's start-up files print to the output of every command.
        startup: Lines of such a file, which may do worse: wait, write errors, exit.
        path: PATH of the sessions.
        sftp: Whether there is an SFTP server; edgeq needs none, scp does.
        file_limit_kib: Largest file that sessions can write (``ulimit -f``).
        settings: More lines for sshd_config.
    """

    key_types: tuple[str, ...] = ("ed25519",)
    banner: str = ""
    noise: str = ""
    startup: str = ":"
    path: str = "/usr/local/bin:/usr/bin:/bin"
    sftp: bool = False
    file_limit_kib: int = 0
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Server:
    folder: Path
    port: int
    user: str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def identity(self) -> Path:
        return self.folder / "id"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def host_key(self, key_type: str = "ed25519") -> HostKey:
        text = (self.folder / f"host_{key_type}.pub").read_text()
        return HostKey.parse(text, "the test's server")

    def device(self, name: str = "bench", **changes: object) -> Device:
        """A device that may log in."""
        fields: dict[str, object] = {
            "name": name,
            "profile": "linux",
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "identity": str(self.identity),
            "host_key": self.host_key().pin if (self.folder / "host_ed25519").exists() else None,
        }
        return Device.model_validate({**fields, **changes})

    def wait_for_log(self, words: str) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while words not in self.log:
            assert time.monotonic() < deadline, f"{words!r} never stood in sshd's log:\n{self.log}"
            time.sleep(0.01)


@contextlib.contextmanager
def running(folder: Path, options: Options | None = None) -> Iterator[Server]:
    """Start a server in an empty folder; it is gone afterwards, with all its sessions."""
    options = options or Options()
    server = Server(folder=folder, port=free_port(), user=getpass.getuser())
    server.home.mkdir(parents=True, mode=0o700)
    for key_type in options.key_types:
        make_key(folder / f"host_{key_type}", key_type)
    make_key(server.identity)
    (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
    _write_enter(server, options)
    (folder / "sshd_config").write_text(_config(server, options))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = [sshd(), "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        _wait_for(server, process)
        yield server
    finally:
        _end_session(process)


def sshd() -> str:
    """The server's path; a machine without one is told what to type."""
    found = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
    assert found, "these tests need an OpenSSH server: sudo apt-get install openssh-server"
    return found


def _sftp_server() -> str:
    found = next((path for path in _SFTP_SERVERS if Path(path).exists()), None)
    assert found, "no sftp-server: sudo apt-get install openssh-sftp-server"
    return found


def make_key(path: Path, key_type: str = "ed25519", passphrase: str = "") -> None:
    size = ["-b", "2048"] if key_type == "rsa" else []
    command = ["ssh-keygen", "-q", "-t", key_type, *size, "-N", passphrase, "-f", str(path)]
    subprocess.run([*command, "-C", "test"], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _config(server: Server, options: Options) -> str:
    folder = server.folder
    banner = folder / "banner"
    banner.write_text(options.banner)
    lines = [
        f"Port {server.port}",
        "ListenAddress 127.0.0.1",
        *(f"HostKey {folder / f'host_{key_type}'}" for key_type in options.key_types),
        f"PidFile {folder / 'pid'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        f"ForceCommand {folder / 'enter'}",
        "MaxStartups 100",
        "UseDNS no",
        "LogLevel VERBOSE",
        *([f"Banner {banner}"] if options.banner else []),
        *([f"Subsystem sftp {_sftp_server()}"] if options.sftp else []),
        *options.settings,
    ]
    return "\n".join(lines) + "\n"


def _write_enter(server: Server, options: Options) -> None:
    """Every session passes here: a HOME, a PATH and limits of its own."""
    limit = f"ulimit -f {options.file_limit_kib * 2}" if options.file_limit_kib else ":"
    noise = f"printf %s {shlex.quote(options.noise)}" if options.noise else ":"
    script = f"""#!/bin/sh
export HOME={shlex.quote(str(server.home))} PATH={shlex.quote(options.path)}
cd "$HOME"
{limit}
{noise}
{options.startup}
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""
    (server.folder / "enter").write_text(script)
    (server.folder / "enter").chmod(0o755)


def _wait_for(server: Server, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"sshd ended:\n{server.log}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return
        time.sleep(0.01)
    raise AssertionError(f"sshd did not listen:\n{server.log}")


def _end_session(process: "subprocess.Popen[bytes]") -> None:
    """End the listener and what it forked, sessions included: they share its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        process.wait(_START_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
