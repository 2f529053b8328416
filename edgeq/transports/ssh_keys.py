"""Whose key is known: known_hosts, and the user's own keys."""

import base64
import contextlib
import fnmatch
import hmac
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.hostkey import HostKey
from edgeq.errors import AuthError, ConfigError, LinkLostError
from edgeq.transports.ssh_route import DEFAULT_PORT, Hop

if TYPE_CHECKING:
    from paramiko import Agent, PKey, Transport


def known(hop: Hop) -> tuple[HostKey, ...]:
    """The keys that the user's known_hosts has for a machine; revoked ones are left out."""
    name = hop.key_name or (hop.host if hop.port == DEFAULT_PORT else f"[{hop.host}]:{hop.port}")
    keys: list[HostKey] = []
    revoked: list[HostKey] = []
    for path in hop.known_hosts:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for line in path.read_text(encoding="utf-8").splitlines():
                _sort(line, name, keys, revoked)
    return tuple(key for key in keys if key not in revoked)


def log_in(transport: "Transport", hop: Hop) -> None:
    """Try the user's keys, the named ones first; passwords are not offered.

    Raises:
        AuthError: none of them is accepted; the hint says what would help.
        LinkLostError: the connection broke.
    """
    from edgeq.transports.ssh_library import paramiko

    keys = _Keys(hop)
    tried = []
    with contextlib.closing(keys):
        for name, key in keys.find():
            tried.append(name)
            try:
                wanted = transport.auth_publickey(hop.user, key)
            except paramiko.BadAuthenticationType as error:
                kinds = " or ".join(error.allowed_types)
                raise _refused(hop, f"wants {kinds}, not a key") from error
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    raise _refused(hop, f"hung up after {len(tried)} keys") from None
                continue
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise LinkLostError(f"{hop.address}: the log-in broke off: {error}") from error
            if not wanted:
                return
            raise _refused(hop, f"wants {' and '.join(wanted)} beside the key")
    raise _none_accepted(hop, tried, keys.encrypted)


class _Keys:
    """The user's private keys and those of the SSH agent, in the order to try."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        self._agent: Agent | None = None
        self.encrypted: list[Path] = []

    def find(self) -> Iterator[tuple[str, "PKey"]]:
        offered: set[bytes] = set()
        for name, key in self._all():
            if key.asbytes() not in offered:
                offered.add(key.asbytes())
                yield name, key

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()

    def _all(self) -> Iterator[tuple[str, "PKey"]]:
        if self._hop.named:
            yield from self._files()
        if not self._hop.only_named:
            for key in self._agent_keys():
                yield "a key of the SSH agent", key
        if not self._hop.named:
            yield from self._files()

    def _files(self) -> Iterator[tuple[str, "PKey"]]:
        for path in self._hop.identities:
            key = self._load(path)
            if key is not None:
                yield str(path), key

    def _load(self, path: Path) -> "PKey | None":
        """The key of a file; that of the agent where the file is encrypted; None where unusable."""
        from cryptography.exceptions import UnsupportedAlgorithm

        from edgeq.transports.ssh_library import paramiko

        try:
            return paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):  # it is encrypted
            held = self._held_by_agent(path)
            if held is None:
                self.encrypted.append(path)
            return held
        except (OSError, ValueError, UnsupportedAlgorithm, paramiko.SSHException):
            return self._held_by_agent(path)
        except paramiko.pkey.UnknownKeyType:
            return self._held_by_agent(path)

    def _held_by_agent(self, path: Path) -> "PKey | None":
        try:
            words = path.with_name(path.name + ".pub").read_text(encoding="utf-8").split()
            blob = base64.b64decode(words[1])
        except (OSError, ValueError, IndexError):
            return None
        return next((key for key in self._agent_keys() if key.asbytes() == blob), None)

    def _agent_keys(self) -> Sequence["PKey"]:
        from edgeq.transports.ssh_library import paramiko

        if self._agent is None:
            try:
                self._agent = paramiko.Agent()
            except (paramiko.SSHException, OSError):  # it does not speak, so it has no keys for us
                return ()
        return self._agent.get_keys()


def _none_accepted(hop: Hop, tried: list[str], encrypted: list[Path]) -> AuthError:
    if encrypted:
        return AuthError(
            f"{hop.address} refuses {hop.user}: the key {encrypted[0]} is encrypted,"
            " and no SSH agent holds it",
            hint=f"ssh-add {encrypted[0]}",
        )
    if not tried:
        return AuthError(
            f"{hop.address}: there is no key to log in as {hop.user} with",
            hint=f"ssh-keygen -t ed25519 && ssh-copy-id -p {hop.port} {hop.user}@{hop.host}",
        )
    return _refused(hop, f"accepts none of {', '.join(dict.fromkeys(tried))}")


def _refused(hop: Hop, what: str) -> AuthError:
    return AuthError(
        f"{hop.address} refuses {hop.user}: it {what}",
        hint=f"ssh-copy-id -p {hop.port} {hop.user}@{hop.host},"
        " or name the right key with --identity",
    )


def _sort(line: str, name: str, keys: list[HostKey], revoked: list[HostKey]) -> None:
    """One line of known_hosts, sshd(8): [marker] names type key; authorities are no host's key."""
    marker, _, rest = line.strip().partition(" ") if line.startswith("@") else ("", "", line)
    names, _, pin = rest.strip().partition(" ")
    if names.startswith("#") or marker == "@cert-authority" or not _is_named(names, name):
        return
    with contextlib.suppress(ConfigError):  # a type that edgeq does not use
        (revoked if marker == "@revoked" else keys).append(HostKey.parse(pin, "known_hosts"))


def _is_named(names: str, name: str) -> bool:
    """Whether a field of names, hashed or patterns with negations, means this host."""
    if names.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in names[3:].split("|"))
        except ValueError:
            return False
        return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
    patterns = names.split(",")
    if any(fnmatch.fnmatchcase(name, p[1:].replace("[", "[[]")) for p in patterns if p[:1] == "!"):
        return False
    return any(fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)
