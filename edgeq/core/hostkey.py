"""A machine's identity: its public host key."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Self

from edgeq.errors import ConfigError

# Key types that are still sound; an RSA key signs with SHA-2 only (RFC 8332).
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """``type`` as in known_hosts; ``blob`` is the key's bytes."""

    type: str
    blob: bytes

    @property
    def base64(self) -> str:
        return base64.b64encode(self.blob).decode()

    @property
    def fingerprint(self) -> str:
        """As ssh shows it: ``SHA256:…``."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def pin(self) -> str:
        """``TYPE BASE64``, as the inventory keeps it."""
        return f"{self.type} {self.base64}"

    @classmethod
    def parse(cls, pin: str, origin: str) -> Self:
        """Read ``TYPE BASE64``; a comment behind it is dropped.

        Raises:
            ConfigError: it is not a host key of a known type.
        """
        words = pin.split()
        if len(words) < 2 or words[0] not in ALGORITHMS:  # noqa: PLR2004 - a type and a key
            raise ConfigError(
                f"{origin}: {pin[:60]!r} is not a host key",
                hint=f"it looks like: ssh-ed25519 AAAA…; types: {', '.join(ALGORITHMS)}",
            )
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ConfigError(f"{origin}: the host key is not base64") from error
        # The blob repeats its type (RFC 4253, 6.6): both must name the same kind of key.
        if blob[4 : 4 + len(words[0])] != words[0].encode():
            raise ConfigError(f"{origin}: the host key is not of the type {words[0]}")
        return cls(type=words[0], blob=blob)
