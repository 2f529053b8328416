"""From words on a command line to devices, profiles and adapters."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from edgeq import devices, places, registry
from edgeq.core.hostkey import HostKey
from edgeq.core.inventory import Device
from edgeq.core.profile import NamedProfile
from edgeq.errors import HostKeyError, UsageError
from edgeq.ports import Transport
from edgeq.transports import adb, local, ssh, ssh_route


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How an unknown host key may be trusted: by its fingerprint, unseen, or by asking."""

    fingerprint: str | None = None
    accept_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device and the kind it is of."""

    device: Device
    profile: NamedProfile

    @property
    def transport(self) -> Transport:
        if self.device.transport == "local":
            return local.make()
        if self.device.transport == "adb":
            return adb.make()
        return ssh.make(default_port=self.profile.profile.access.port)


def target(
    name: str,
    *,
    host: str | None = None,
    identity: Path | None = None,
    trust: Trust | None = None,
) -> Target:
    """The device that ``--device`` means; with ``host`` a one-off of the profile ``name``.

    Raises:
        UsageError: there is none.
        ConnectError: a one-off's host key cannot be had or is not trusted.
    """
    if host is not None:
        return one_off(name, host, identity, trust or Trust())
    if identity or (trust and (trust.fingerprint or trust.accept_new)):
        raise UsageError("--identity, --fingerprint and --accept-new go with --host")
    inventory = devices.load(places.find(os.environ))
    if any(device.name == name for device in inventory.devices):
        device = devices.find(inventory, name)
        return Target(device=device, profile=registry.profile(device.profile))
    profiles = registry.profiles()
    is_path = "/" in name or name.endswith(".toml")
    if is_path or name in profiles:
        profile = registry.profile(name)
        if profile.profile.access.transport == "local":
            device = Device(name=profile.name, profile=name, transport="local")
            return Target(device=device, profile=profile)
        if profile.profile.access.transport == "adb":
            raise UsageError(
                f"{name} is a profile, and no device of that name was added",
                hint=f"edgeq devices add {profile.name} --profile {name} --serial SERIAL"
                " (adb devices shows it)",
            )
    return Target(device=devices.find(inventory, name, profiles), profile=profiles[name])


def one_off(profile: str, host: str, identity: Path | None, trust: Trust) -> Target:
    """A machine that is not in the inventory; the user's known_hosts may vouch for it."""
    kind = registry.profile(profile)
    if kind.profile.access.transport == "adb":
        from edgeq.cli import phones

        return Target(device=phones.find("one-off", kind, serial=None, host=host), profile=kind)
    if kind.profile.access.transport != "ssh":
        raise UsageError(f"the profile {kind.name} is this machine; --host does not go with it")
    device = remote(_one_off_name(host), profile, host, identity)
    transport = ssh.make(default_port=kind.profile.access.port)
    shown = transport.scan(device)
    if shown.pin not in [key.pin for key in transport.known(device)]:
        accept(device.host, shown, trust)
    pinned = device.model_copy(update={"host_key": shown.pin})
    return Target(device=pinned, profile=kind)


def _one_off_name(host: str) -> str:
    """The address, as far as it can be a device's name."""
    _, address, _ = ssh_route.parse_address(host, "--host")
    safe = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in address)
    return safe.strip(".-")[:64] or "one-off"


def remote(name: str, profile: str, host: str, identity: Path | None) -> Device:
    """A device of ``USER@HOST[:PORT]``, not pinned yet."""
    user, address, port = ssh_route.parse_address(host, "--host")
    return devices.make(
        {
            "name": name,
            "profile": profile,
            "host": address,
            "port": port,
            "user": user,
            "identity": str(identity.expanduser().absolute()) if identity else None,
        }
    )


def accept(host: str, shown: HostKey, trust: Trust) -> None:
    """Let the host key pass, or not.

    Raises:
        HostKeyError: it is another one than it should be, or nobody is there to say yes.
    """
    typer.echo(f"{host} shows the {shown.type} key {shown.fingerprint}", err=True)
    if trust.fingerprint is not None:
        wanted = trust.fingerprint.strip().rstrip("=")
        if wanted.removeprefix("SHA256:") != shown.fingerprint.removeprefix("SHA256:"):
            raise HostKeyError(
                f"{host} shows the key {shown.fingerprint}, not {trust.fingerprint}",
                hint="on the device itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
            )
        return
    if trust.accept_new:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise HostKeyError(
            f"nobody is here to confirm the host key of {host}",
            hint=f"compare it on the device, then add: --fingerprint {shown.fingerprint}",
        )
    if not typer.confirm("Is this the device's key?", err=True):
        raise HostKeyError(f"the host key of {host} was not accepted")


def kind(name: str) -> NamedProfile:
    """The profile called ``name``, or that of the device called so."""
    inventory = devices.load(places.find(os.environ))
    own = {device.name: device.profile for device in inventory.devices}
    return registry.profile(own.get(name, name))
