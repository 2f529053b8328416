"""The user's devices: names, profiles, addresses and pinned host keys."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Device(BaseModel):
    """One machine.

    Attributes:
        profile: A profile's name or path.
        transport: ``local`` is this machine.
        host: Name or address, or an alias of ``~/.ssh/config``; empty for ``local``.
        port: None means what ``~/.ssh/config`` or the profile says, else 22.
        user: None likewise, else the local user.
        identity: Private key file; None means ``~/.ssh/config``, the agent, the usual files.
        host_key: ``TYPE BASE64`` as pinned.
        python: Python on the device; None means the best one found.
        serial: What adb calls the device: its serial number, or HOST:PORT over Wi-Fi.
        hardware: Its own serial number as pinned, for adb; None where it tells none.
        benchmark_model: Path of that program, here or (``device:/…``) there, for this device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    profile: str
    transport: Literal["local", "ssh", "adb"] = "ssh"
    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: str | None = None
    identity: str | None = None
    host_key: str | None = None
    python: str | None = None
    serial: Annotated[str, Field(pattern=r"^[!-~]{1,200}$")] | None = None
    hardware: str | None = None
    benchmark_model: str | None = None


class Inventory(BaseModel):
    """All of them; kept as ``devices.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    devices: tuple[Device, ...] = ()
