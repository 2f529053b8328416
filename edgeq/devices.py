"""The user's devices, kept in ``devices.toml``."""

import contextlib
import difflib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from edgeq.core import strict
from edgeq.core.inventory import Device, Inventory
from edgeq.errors import ConfigError, HostError, UsageError
from edgeq.places import Places

FILE = "devices.toml"
_HEAD = "# The devices that edgeq knows. Written by: edgeq devices add, edgeq devices remove.\n"


def load(places: Places) -> Inventory:
    """All devices; none if there is no file yet.

    Raises:
        ConfigError: the file is wrong, or a name stands twice in it.
    """
    path = places.config / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Inventory()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    inventory = strict.parse(Inventory, text, origin=str(path))
    names = [device.name for device in inventory.devices]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{path}: the device {twice} stands twice", hint="remove one of them")
    return inventory


def find(inventory: Inventory, name: str, profiles: Iterable[str] = ()) -> Device:
    """The device called ``name``.

    Args:
        inventory: Where to look.
        name: What the user typed.
        profiles: Names of profiles: one of these in a device's place is a likely mistake.

    Raises:
        UsageError: there is none; the hint is the nearest name, or the line that adds one.
    """
    names = [device.name for device in inventory.devices]
    if name in names:
        return inventory.devices[names.index(name)]
    if name in profiles:
        raise UsageError(
            f"{name} is a profile, and no device of that name was added",
            hint=f"edgeq devices add {name} --profile {name} --host USER@HOST",
        )
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        hint = f"did you mean {close[0]}?"
    elif names:
        hint = f"there are: {', '.join(sorted(names))}"
    else:
        hint = "edgeq devices add NAME --profile PROFILE --host USER@HOST"
    raise UsageError(f"no device is called {name!r}", hint=hint)


def require_new(places: Places, name: str) -> None:
    """Before anything is asked of the machine: the name is free.

    Raises:
        UsageError: there is a device of that name.
    """
    if name in (known.name for known in load(places).devices):
        raise UsageError(
            f"there is a device {name} already",
            hint=f"edgeq devices remove {name}, or take another name",
        )


def add(places: Places, device: Device) -> None:
    """Keep a new device.

    Raises:
        UsageError: there is one of that name.
        ConfigError: the file is wrong.
        HostError: it cannot be written.
    """
    with _held(places) as path:
        inventory = load(places)
        if device.name in (known.name for known in inventory.devices):
            raise UsageError(
                f"there is a device {device.name} already",
                hint=f"edgeq devices remove {device.name}, or take another name",
            )
        _write(path, (*inventory.devices, device))


def remove(places: Places, name: str) -> Device:
    """Forget a device; nothing on the device changes.

    Raises:
        UsageError: there is none of that name.
        ConfigError: the file is wrong.
        HostError: it cannot be written.
    """
    with _held(places) as path:
        inventory = load(places)
        device = find(inventory, name)
        _write(path, tuple(known for known in inventory.devices if known != device))
        return device


def make(fields: Mapping[str, object]) -> Device:
    """A device of what a user typed.

    Raises:
        UsageError: a field cannot be so; with its name.
    """
    try:
        return Device.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        hint = "names have letters, digits, '.', '_' and '-', at most 64" if field == "name" else ""
        raise UsageError(f"{field} cannot be {first['input']!r}", hint=hint) from error


@contextlib.contextmanager
def _held(places: Places) -> Iterator[Path]:
    """One writer at a time, on one machine; gives the file's path."""
    path = places.config / FILE
    try:
        places.config.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f".{FILE}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(lock)


def _write(path: Path, devices: tuple[Device, ...]) -> None:
    """Replace the file as a whole; mkstemp makes it readable by its owner alone."""
    try:
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_to_toml(devices))
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).replace(path)
        finally:
            Path(fresh).unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def _to_toml(devices: Iterable[Device]) -> str:
    lines = [_HEAD, f"version = {Inventory().version}"]
    for device in sorted(devices, key=lambda device: device.name):
        lines.append("\n[[devices]]")
        for key, value in device.model_dump(exclude_none=True, exclude_defaults=True).items():
            lines.append(f"{key} = {value if isinstance(value, int) else _quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A basic string: JSON's escapes are TOML's too, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
