"""Android devices on the command line: found by their serial number or address, and pinned."""

from pathlib import Path

import typer

from edgeq import devices
from edgeq.core.inventory import Device
from edgeq.core.profile import NamedProfile
from edgeq.errors import UsageError
from edgeq.transports import adb


def find(
    name: str,
    profile: NamedProfile,
    *,
    serial: str | None,
    host: str | None,
    benchmark_model: str | None = None,
) -> Device:
    """The phone that is meant, reached, with the serial number it tells.

    Args:
        name: Of the device.
        profile: What kind it is.
        serial: As ``adb devices`` shows it; None: ``host``, or the only one there is.
        host: HOST[:PORT] on Wi-Fi.
        benchmark_model: Path of that program.

    Raises:
        UsageError: words that do not go together.
        ConnectError: it is not there, or not ready.
    """
    if serial is not None and host is not None:
        raise UsageError("--serial and --host name the same thing", hint="give one of them")
    wanted = serial if host is None else address(host)
    transport = adb.make()
    seen = transport.choose(wanted)
    device = devices.make(
        {
            "name": name,
            "profile": str(profile.path) if name_is_path(profile) else profile.name,
            "transport": "adb",
            "serial": seen.serial,
            "benchmark_model": _absolute(benchmark_model),
        }
    )
    link = transport.connect(device)
    own = adb.hardware(link)
    link.close()
    if own is None:
        typer.echo(
            f"edgeq: {seen.serial} tells no serial number of its own, so another phone in its"
            " place will not be noticed",
            err=True,
        )
    return device.model_copy(update={"hardware": own})


def address(host: str) -> str:
    """``HOST[:PORT]`` as adb calls it.

    Raises:
        UsageError: it is none.
    """
    name, colon, port = host.rpartition(":")
    if not colon:
        name, port = host, str(adb.WIFI_PORT)
    if not name or "@" in name or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--host {host!r} is not the address of a phone",
            hint=f"HOST:PORT as its Wireless debugging shows it; the port is {adb.WIFI_PORT} after:"
            " adb tcpip 5555",
        )
    return f"{name}:{port}"


def name_is_path(profile: NamedProfile) -> bool:
    """Whether only its path finds this profile again."""
    return profile.path.parent.name != "device_profiles"


def _absolute(benchmark_model: str | None) -> str | None:
    """A path here made absolute, so that it means the same from any folder.

    Raises:
        UsageError: there is no such file.
    """
    if benchmark_model is None or benchmark_model.startswith("device:"):
        return benchmark_model
    path = Path(benchmark_model).expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"there is no program {path}", hint="--benchmark-model PATH")
    return str(path)
