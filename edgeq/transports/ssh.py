"""Devices over SSH. ``connect`` never logs in to a machine whose host key is not the pinned one."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.hostkey import ALGORITHMS, HostKey
from edgeq.core.inventory import Device
from edgeq.errors import ConnectError, HostKeyError, UsageError
from edgeq.transports import ssh_keys, ssh_pulse
from edgeq.transports.ssh_link import SshLink
from edgeq.transports.ssh_route import DEFAULT_PORT, Hop, Routes
from edgeq.transports.ssh_socket import Stream, Wire, dial, tune

if TYPE_CHECKING:
    from paramiko import Transport

# GCM first: it needs no MAC, whose SHA-256 is what limits throughput. No CBC, SHA-1 or MD5.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
# The group exchange is left out: its group is the server's choice. Group 16 takes 70 ms.
KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times after which to give up.

    Attributes:
        connect_s: For each of connecting, greeting, key exchange and log-in.
        dead_after_s: Sent data that nobody acknowledges ends the connection; so does a device that
            answers no keep-alive. Longer than the agent waits for its host (``agent.talk``), so
            that whoever starts again finds the device's lock free.
        stall_s: A device that takes no data, though the connection stands.
        keepalive_s: Between two questions whether the other end is still there.
    """

    connect_s: float = 15.0
    dead_after_s: float = 30.0
    stall_s: float = 60.0
    keepalive_s: float = 5.0


def make(
    environ: Mapping[str, str] | None = None,
    default_port: int = DEFAULT_PORT,
    limits: Limits | None = None,
) -> "SshTransport":
    """SSH with the keys, agent and configuration of the user whose ``HOME`` is in ``environ``.

    ``default_port`` is the profile's; the device's own and that of ~/.ssh/config come first.
    """
    return SshTransport(
        Routes(os.environ if environ is None else environ, default_port), limits or Limits()
    )


class SshTransport:
    def __init__(self, routes: Routes, limits: Limits) -> None:
        self._routes = routes
        self._limits = limits

    def connect(self, device: Device) -> SshLink:
        """Connect to the machine whose host key was pinned, and log in.

        Raises:
            HostKeyError: it is not that machine, or a jump host is not known.
            AuthError: it accepts none of the keys.
            ConnectError: it cannot be reached.
        """
        if device.host_key is None:
            raise HostKeyError(
                f"no host key is pinned for {device.name}",
                hint=f"edgeq devices add {device.name} --profile {device.profile} --host …",
            )
        pinned = HostKey.parse(device.host_key, f"device {device.name}")
        if device.identity and not Path(device.identity).expanduser().is_file():
            raise UsageError(f"there is no identity file {device.identity}")
        with contextlib.ExitStack() as stack:
            transport, hop, wire = self._reach(device, stack, (pinned,))
            ssh_keys.log_in(transport, hop)
            stack.callback(ssh_pulse.start(transport, self._limits.keepalive_s))
            wire.expect(self._limits.keepalive_s + self._limits.dead_after_s)
            return SshLink(transport, hop.address, stack.pop_all(), self._limits.stall_s)

    def scan(self, device: Device) -> HostKey:
        """The host key that the machine shows now. That proves nothing yet, and nobody logs in.

        Raises:
            ConnectError: it cannot be reached, or has no host key of a sound type.
        """
        with contextlib.ExitStack() as stack:
            transport, *_ = self._reach(device, stack, ())
            return _shown(transport)

    def known(self, device: Device) -> tuple[HostKey, ...]:
        """What the user's known_hosts says about the device; empty when it is not there."""
        return ssh_keys.known(self._routes.find(device)[-1])

    def _reach(
        self, device: Device, stack: contextlib.ExitStack, pins: Sequence[HostKey]
    ) -> tuple["Transport", Hop, Wire]:
        """Hop by hop to the device, whose host key is compared if there are pins; not logged in."""
        *jumps, last = self._routes.find(device)
        before: tuple[Transport, Hop] | None = None
        for jump in jumps:
            known = _known_or_refuse(jump)
            transport, _ = self._greet(self._stream(jump, before), jump, stack, known)
            _require(transport, known, jump, _jump_hint(jump))
            ssh_keys.log_in(transport, jump)
            before = transport, jump
        transport, wire = self._greet(self._stream(last, before), last, stack, pins)
        if pins:
            _require(transport, pins, last, _pin_hint(device.name))
        return transport, last, wire

    def _stream(self, hop: Hop, before: tuple["Transport", Hop] | None) -> Stream:
        if before is None:
            connection = dial(hop, self._limits.connect_s)
            tune(connection, self._limits.dead_after_s)
            return connection
        from edgeq.transports.ssh_library import paramiko

        transport, jump = before
        target = (hop.host, hop.port)
        try:
            return transport.open_channel(
                "direct-tcpip", target, ("127.0.0.1", 0), timeout=self._limits.connect_s
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ConnectError(
                f"{jump.address} cannot reach {hop.address}: {error}",
                hint=f"try it there: ssh {jump.name}",
            ) from error

    def _greet(
        self, stream: Stream, hop: Hop, stack: contextlib.ExitStack, pins: Sequence[HostKey]
    ) -> tuple["Transport", Wire]:
        """Agree on keys, offering only algorithms of the pinned keys' types."""
        from edgeq.transports.ssh_library import paramiko

        wire = Wire(stream, self._limits.dead_after_s)
        stack.callback(wire.close)
        try:
            # A Wire has what paramiko asks of a socket-like object, which its stubs do not know.
            transport = paramiko.Transport(wire)  # type: ignore[arg-type]
            stack.callback(transport.close)
            _configure(transport, pins, self._limits.connect_s)
            transport.start_client(timeout=self._limits.connect_s)
            _shown(transport)
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise _incompatible(hop, pins, str(error)) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            why = str(error) or "it hung up"
            raise ConnectError(
                f"{hop.address} answers, but not as an SSH server does: {why}",
                hint=f"is that the SSH port? try: ssh -v -p {hop.port} {hop.user}@{hop.host} true",
            ) from error
        return transport, wire


def _configure(transport: "Transport", pins: Sequence[HostKey], timeout_s: float) -> None:
    options = transport.get_security_options()
    options.ciphers = CIPHERS
    options.digests = MACS
    options.kex = [name for name in KEX if name in options.kex]
    types = [pin.type for pin in pins] or list(ALGORITHMS)
    options.key_types = [algorithm for type_ in types for algorithm in ALGORITHMS[type_]]
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout_s


def _shown(transport: "Transport") -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(type=key.get_name(), blob=key.asbytes())


def _require(transport: "Transport", pins: Sequence[HostKey], hop: Hop, hint: str) -> None:
    shown = _shown(transport)
    if shown not in pins:
        expected = " or ".join(pin.fingerprint for pin in pins)
        raise HostKeyError(
            f"{hop.address} is not the machine that was pinned:"
            f" its {shown.type} host key is {shown.fingerprint}, pinned is {expected}",
            hint=hint,
        )


def _known_or_refuse(jump: Hop) -> tuple[HostKey, ...]:
    keys = ssh_keys.known(jump)
    if not keys:
        raise HostKeyError(
            f"the host key of the jump host {jump.address} is not in ~/.ssh/known_hosts",
            hint=f"log in once and compare the fingerprint: ssh {jump.name}",
        )
    return keys


def _incompatible(hop: Hop, pins: Sequence[HostKey], text: str) -> ConnectError:
    if "host key" in text and pins:
        types = " or ".join(pin.type for pin in pins)
        return HostKeyError(
            f"{hop.address} is not the machine that was pinned: it has no {types} host key,"
            f" pinned is {' or '.join(pin.fingerprint for pin in pins)}",
            hint="if it was installed anew, remove the device and add it again",
        )
    return ConnectError(
        f"{hop.address} offers no modern way to talk: {text}",
        hint="update its SSH server; edgeq does not use SHA-1, MD5, CBC or ssh-rsa signatures",
    )


def _pin_hint(name: str) -> str:
    return (
        f"if it was installed anew: edgeq devices remove {name}, then edgeq devices add {name} …;"
        " if not, something stands between you and it"
    )


def _jump_hint(jump: Hop) -> str:
    return f'if it was installed anew: ssh-keygen -R "{jump.host}" and log in once: ssh {jump.name}'
