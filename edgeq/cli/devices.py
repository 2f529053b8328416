"""``edgeq devices``: the user's machines."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from edgeq.cli import words

if TYPE_CHECKING:
    from edgeq.core.inventory import Device
    from edgeq.core.profile import NamedProfile

app = typer.Typer(help="Your machines.", rich_markup_mode=None, no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The device's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    name: Name,
    profile: Annotated[str, typer.Option(help="What kind it is; edgeq profiles list.")],
    host: Annotated[
        str | None,
        typer.Option(
            metavar="USER@HOST[:PORT]",
            help="Or a name in ~/.ssh/config; HOST[:PORT] of a phone on Wi-Fi.",
        ),
    ] = None,
    serial: Annotated[str | None, typer.Option(help="Of a phone, as adb devices shows it.")] = None,
    benchmark_model: words.BenchmarkModel = None,
    identity: words.Identity = None,
    python: Annotated[
        str | None, typer.Option(help="Python on the device; default: the best one found.")
    ] = None,
    fingerprint: words.Fingerprint = None,
    accept_new: words.AcceptNew = False,
) -> None:
    """Pin a machine's host key, or a phone's serial number, and remember it."""
    from edgeq import devices, places, registry
    from edgeq.cli import jobs
    from edgeq.errors import UsageError
    from edgeq.transports import ssh

    kind = registry.profile(profile)
    if kind.profile.access.transport == "adb":
        _add_phone(name, kind, serial=serial, host=host, benchmark_model=benchmark_model)
        return
    if serial or benchmark_model:
        raise UsageError("--serial and --benchmark-model go with a profile for adb")
    if kind.profile.access.transport != "ssh":
        raise UsageError(
            f"the profile {kind.name} is this machine and needs no adding",
            hint=f"edgeq deploy --device {kind.name} MODEL; over SSH: --profile linux",
        )
    if name in registry.local_names():
        raise UsageError(f"{name} means this machine", hint="take another name for the device")
    where = places.find(os.environ)
    devices.require_new(where, name)
    if host is None:
        raise UsageError("--host is missing", hint="--host USER@HOST[:PORT]")
    device = jobs.remote(name, profile, host, identity)
    transport = ssh.make(default_port=kind.profile.access.port)
    shown = transport.scan(device)
    jobs.accept(host, shown, jobs.Trust(fingerprint=fingerprint, accept_new=accept_new))
    pinned = device.model_copy(update={"host_key": shown.pin, "python": python})
    # The log-in is tried now: a wrong user or key shows here, not in the midst of a deploy.
    transport.connect(pinned).close()
    devices.add(where, pinned)
    typer.echo(f"added {name}: {kind.name} at {host}, {shown.fingerprint}")


@app.command("list")
def list_(json: AsJson = False) -> None:
    """Show all devices."""
    from edgeq import devices, places

    inventory = devices.load(places.find(os.environ))
    if json:
        typer.echo(inventory.model_dump_json(indent=2))
        return
    from edgeq.cli import render

    rows = [(device.name, device.profile, _address(device)) for device in inventory.devices]
    render.table(
        ("device", "profile", "address"),
        rows,
        "there are no devices yet: edgeq devices add NAME --profile PROFILE --host USER@HOST",
    )


@app.command()
def show(name: Name, json: AsJson = False) -> None:
    """Show one device: what edgeq knows, without connecting."""
    from edgeq import devices, places
    from edgeq.core.hostkey import HostKey

    device = devices.find(devices.load(places.find(os.environ)), name)
    if json:
        typer.echo(device.model_dump_json(indent=2))
        return
    from edgeq.cli import render

    shown = [("device", device.name), ("profile", device.profile), ("address", _address(device))]
    if device.transport == "adb":
        shown += [
            ("serial number", device.hardware or "it tells none"),
            ("benchmark_model", device.benchmark_model or "the profile's, or the one there"),
        ]
        render.fields(shown)
        return
    key = HostKey.parse(device.host_key, name) if device.host_key else None
    render.fields(
        (
            *shown,
            ("identity", device.identity or "agent, ~/.ssh/config, default keys"),
            ("python", device.python or "best one found"),
            ("host key", f"{key.type} {key.fingerprint}" if key else None),
        )
    )


@app.command()
def remove(name: Name) -> None:
    """Forget a device and its pinned key; nothing on the device changes."""
    from edgeq import devices, places

    removed = devices.remove(places.find(os.environ), name)
    folder = "/data/local/tmp/edgeq" if removed.transport == "adb" else "~/.edgeq"
    typer.echo(f"removed {name}; on the device {folder} stays: delete it there if it is not wanted")


@app.command()
def doctor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device, or 'host'.")],
    json: AsJson = False,
) -> None:
    """Examine a device: what it is, what it lacks, what edgeq does about it; changes nothing."""
    from contextlib import closing

    from edgeq import places
    from edgeq.cli import diagnosis, jobs

    target = jobs.target(name)
    if target.profile.profile.runtime.native:
        from edgeq.native.doctor import examine
    else:
        from edgeq.doctor import examine
    with closing(target.transport.connect(target.device)) as link:
        found = examine(link, target.device, target.profile, places.find(os.environ))
    if json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        diagnosis.show(found)
    if found.blocked:
        raise typer.Exit(1)


def _add_phone(
    name: str,
    kind: "NamedProfile",
    *,
    serial: str | None,
    host: str | None,
    benchmark_model: str | None,
) -> None:
    from edgeq import devices, places
    from edgeq.cli import phones

    where = places.find(os.environ)
    devices.require_new(where, name)
    found = phones.find(name, kind, serial=serial, host=host, benchmark_model=benchmark_model)
    devices.add(where, found)
    own = f", serial number {found.hardware}" if found.hardware else ""
    typer.echo(f"added {name}: {kind.name} at {found.serial}{own}")


def _address(device: "Device") -> str:
    if device.transport == "local":
        return "this machine"
    if device.transport == "adb":
        return f"adb {device.serial}"
    user = f"{device.user}@" if device.user else ""
    port = f":{device.port}" if device.port else ""
    return f"{user}{device.host}{port}"
