"""The way to a device: what the user's ~/.ssh/config says about it, and the machines between."""

import getpass
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.inventory import Device
from edgeq.errors import ConfigError, UsageError

DEFAULT_PORT = 22
DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
_MAX_DEPTH = 8
_HOST = re.compile(r"[\w:][\w.:%-]{0,254}")
_MATCH_EXEC = re.compile(r"^\s*match\b.*\bexec\b.*$", re.IGNORECASE | re.MULTILINE)
# OpenSSH refuses the same in user names from the command line since 9.6.
_UNSAFE_IN_USER = re.compile(r"[\s'\"`$\\;&<>|(){}\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One machine to log in to.

    Attributes:
        name: What the user called it.
        key_name: Under which known_hosts has it.
        identities: Key files to try, the named ones first.
        named: Whether the identities were named, by the device or the configuration.
        only_named: No other keys, such as the agent's, are to be tried.
        known_hosts: Files with the keys of jump hosts.
    """

    name: str
    host: str
    port: int
    user: str
    key_name: str
    identities: tuple[Path, ...]
    named: bool
    only_named: bool
    known_hosts: tuple[Path, ...]

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Routes:
    """Finds routes by ``$HOME/.ssh/config``."""

    def __init__(self, environ: Mapping[str, str], default_port: int = DEFAULT_PORT) -> None:
        self._ssh = Path(environ.get("HOME") or "~").expanduser() / ".ssh"
        self._user = environ.get("LOGNAME") or environ.get("USER") or ""
        self._default_port = default_port

    def find(self, device: Device) -> tuple[Hop, ...]:
        """The hops in the order of the log-ins; the last one is the device.

        Raises:
            UsageError: its host or user is no name of a machine or a person.
            ConfigError: ~/.ssh/config is wrong, or asks for what edgeq does not do.
        """
        origin = f"device {device.name}"
        check_host(device.host, origin)
        if device.user is not None:
            check_user(device.user, origin)
        own = Path(device.identity).expanduser() if device.identity else None
        return self._hops(device.host, device.port, device.user, own)

    def _hops(
        self,
        name: str,
        port: int | None,
        user: str | None,
        identity: Path | None,
        depth: int = 0,
        through: Sequence[Hop] | None = None,
    ) -> tuple[Hop, ...]:
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{self._ssh / 'config'}: the jumps to {name} do not end")
        settings = self._settings(name)
        usual_port = DEFAULT_PORT if depth else self._default_port
        port = port or _port(settings.get("port"), name) or usual_port
        hop = self._hop(name, settings, port=port, user=user, identity=identity)
        if through is None:
            through = self._jumps(settings.get("proxyjump"), depth)
        return (*through, hop)

    def _jumps(self, value: str | None, depth: int) -> tuple[Hop, ...]:
        """``[user@]host[:port],…``; the first may have jumps of its own, as with ssh."""
        if value is None or value.lower() == "none":
            return ()
        origin = f"{self._ssh / 'config'}: ProxyJump"
        hops: tuple[Hop, ...] | None = None
        for text in value.split(","):
            user, host, port = parse_address(text.strip().removeprefix("ssh://"), origin)
            hops = self._hops(host, port, user, None, depth + 1, hops)
        return hops or ()

    def _hop(
        self,
        name: str,
        settings: Mapping[str, str],
        *,
        port: int,
        user: str | None,
        identity: Path | None,
    ) -> Hop:
        if settings.get("proxycommand"):
            raise ConfigError(
                f"{self._ssh / 'config'} has a ProxyCommand for {name}, which edgeq does not run",
                hint=f"say it with ProxyJump: Host {name}, ProxyJump JUMPHOST",
            )
        host = settings.get("hostname", name)
        check_host(host, f"{self._ssh / 'config'}: HostName")
        user = user or settings.get("user") or self._user or getpass.getuser()
        check_user(user, f"{self._ssh / 'config'}: User")
        configured = tuple(Path(p).expanduser() for p in _lines(settings.get("identityfile")))
        named = (identity, *configured) if identity else configured
        usual = tuple(self._ssh / key for key in DEFAULT_IDENTITIES)
        return Hop(
            name=name,
            host=host,
            port=port,
            user=user,
            key_name=settings.get("hostkeyalias", ""),
            identities=named or usual,
            named=bool(named),
            only_named=settings.get("identitiesonly", "no").lower() == "yes",
            known_hosts=self._known_hosts(settings.get("userknownhostsfile")),
        )

    def _known_hosts(self, value: str | None) -> tuple[Path, ...]:
        if value is not None:
            return tuple(Path(word).expanduser() for word in value.split() if word != "none")
        return (self._ssh / "known_hosts", Path("/etc/ssh/ssh_known_hosts"))

    def _settings(self, name: str) -> Mapping[str, str]:
        path = self._ssh / "config"
        text = "\n".join(_read(path, self._ssh))
        return _lookup(text, name, path) if text else {}


def parse_address(text: str, origin: str) -> tuple[str | None, str, int | None]:
    """Take ``[USER@]HOST[:PORT]`` apart; an IPv6 address with a port stands in brackets.

    Raises:
        UsageError: it is no address.
    """
    user, at, rest = text.rpartition("@")
    if at:
        check_user(user, origin)
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", rest)
    plain = re.fullmatch(r"([^:]*)(?::(\d{1,5}))?", rest)
    match = bracketed or plain
    host, port = (match[1], match[2]) if match else (rest, None)
    _, colon, tail = rest.partition(":")
    if match is None and colon and ":" not in tail:
        raise UsageError(f"{origin}: {tail!r} is no port", hint="ports go from 1 to 65535")
    check_host(host, origin)
    if port is not None and not 0 < int(port) < 1 << 16:
        raise UsageError(f"{origin}: {port} is no port", hint="ports go from 1 to 65535")
    return (user if at else None), host, (int(port) if port else None)


def check_host(host: str, origin: str) -> None:
    """A host name never looks like an option and never becomes shell text.

    Raises:
        UsageError: it is not a host's name or address.
    """
    if not _HOST.fullmatch(host):
        raise UsageError(
            f"{origin}: {host!r} is not a host name",
            hint="a name, an address or an alias of ~/.ssh/config: raspberrypi.local, 192.168.1.7",
        )


def check_user(user: str, origin: str) -> None:
    """The same for a user.

    Raises:
        UsageError: it is not a user's name.
    """
    if not user or user.startswith("-") or len(user) > 255 or _UNSAFE_IN_USER.search(user):  # noqa: PLR2004
        raise UsageError(f"{origin}: {user!r} is not a user name", hint="write USER@HOST[:PORT]")


def _port(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 16:
        raise ConfigError(f"~/.ssh/config: Port {text!r} of {name} is no port")
    return int(text)


def _lookup(text: str, name: str, path: Path) -> Mapping[str, str]:
    """Values by lower-case keyword; several identity files are joined by newlines."""
    from edgeq.transports.ssh_library import paramiko

    if match := _MATCH_EXEC.search(text):
        raise ConfigError(f"{path}: edgeq runs no commands: {match[0].strip()}")
    try:
        found = paramiko.SSHConfig.from_text(text).lookup(name)
    except (paramiko.ConfigParseError, paramiko.SSHException, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: {error}") from error
    settings: dict[str, object] = dict(found)
    return {
        key: "\n".join(value) if isinstance(value, list) else str(value)
        for key, value in settings.items()
        if value is not None
    }


def _read(path: Path, folder: Path, depth: int = 0) -> Iterator[str]:
    """Lines of the file with those it includes in their place, which paramiko does not do."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    block = "Host *"
    for line in lines:
        word, _, value = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() in ("host", "match"):
            block = line
        if word.lower() != "include":
            yield line
            continue
        for name in _included(value, folder) if depth < _MAX_DEPTH else ():
            yield from _read(name, folder, depth + 1)
        yield block  # what the included file opened ends with it


def _included(patterns: str, folder: Path) -> Iterator[Path]:
    for pattern in patterns.replace('"', "").split():
        absolute = folder / Path(pattern).expanduser()
        yield from sorted(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))


def _lines(text: str | None) -> list[str]:
    return text.split("\n") if text else []
