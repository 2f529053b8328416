"""Android devices over adb, by cable or Wi-Fi.

A phone says who it is by its serial number, ``ro.serialno``, which is pinned when it is added: an
address on Wi-Fi, or a cable, may lead to another phone tomorrow.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.core.inventory import Device
from edgeq.errors import AuthError, ConnectError, DeviceError, HostKeyError, LinkLostError
from edgeq.transports.adb_client import Adb, Seen
from edgeq.transports.adb_link import AdbLink

WIFI_PORT = 5555
_IDENTITY = ("ro.serialno", "ro.boot.serialno")
_IDENTITY_S = 20.0
_UNKNOWN = frozenset({"", "unknown", "0123456789abcdef", "0123456789ABCDEF"})
_PASSING = frozenset({"connecting", "authorizing"})
_UPDATING = frozenset({"recovery", "sideload", "rescue"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times after which to give up.

    Attributes:
        settle_s: For a state that passes by itself, such as ``connecting``.
        connect_s: For ``adb connect``.
        stall_s: A device that takes no data, though the connection stands.
    """

    settle_s: float = 5.0
    connect_s: float = 20.0
    stall_s: float = 60.0


def make(environ: Mapping[str, str] | None = None, limits: Limits | None = None) -> "AdbTransport":
    """Devices of the adb server that ``environ`` (ANDROID_ADB_SERVER_PORT, …) names."""
    return AdbTransport(os.environ if environ is None else environ, limits or Limits())


class AdbTransport:
    def __init__(self, environ: Mapping[str, str], limits: Limits) -> None:
        self._environ = environ
        self._limits = limits

    def connect(self, device: Device) -> AdbLink:
        """Reach the phone that was pinned.

        Raises:
            HostKeyError: it is another one.
            AuthError: it has not allowed this computer.
            ConnectError: it is not there, or not ready.
        """
        adb = Adb(self._environ)
        adb.require_server()
        serial = device.serial or self._only(adb).serial
        self._ready(adb, serial)
        link = AdbLink(adb, serial, self._limits.stall_s)
        _require_shell(adb, serial)
        found = hardware(link)
        if device.hardware is not None and found != device.hardware:
            raise HostKeyError(
                f"the phone at {serial} is not {device.name}: its serial number is"
                f" {found or 'not told'}, pinned is {device.hardware}",
                hint=f"connect the right one; if it was replaced: edgeq devices remove"
                f" {device.name}, then edgeq devices add {device.name} …",
            )
        return link

    def choose(self, serial: str | None) -> Seen:
        """The device called so, or the only one there is; it is ready.

        Raises:
            ConnectError: there is none or more than one, or it is not ready.
        """
        adb = Adb(self._environ)
        adb.require_server()
        return self._ready(adb, serial or self._only(adb).serial)

    def _only(self, adb: Adb) -> Seen:
        seen = adb.devices()
        if not seen:
            raise ConnectError(
                "no Android device is connected",
                hint="plug it in with USB debugging on (Settings, Developer options), or over"
                " Wi-Fi: --serial HOST:PORT",
            )
        if len(seen) > 1:
            raise ConnectError(
                f"{len(seen)} Android devices are connected: {_list(seen)}",
                hint=f"name one of them: --serial {seen[0].serial}",
            )
        return seen[0]

    def _ready(self, adb: Adb, serial: str) -> Seen:
        """The device in the state ``device``, after ``adb connect`` where it is an address."""
        seen = self._settled(adb, serial)
        said = ""
        if ":" in serial and (seen is None or seen.state == "offline"):
            if seen is not None:  # adb takes a connection that died for one that stands
                adb.ask("disconnect", serial, timeout_s=self._limits.connect_s)
            said = adb.ask("connect", serial, timeout_s=self._limits.connect_s).last_line
            seen = self._settled(adb, serial)
        if seen is None:
            raise _absent(serial, said, adb.devices())
        if seen.state != "device":
            raise _refusal(seen)
        return seen

    def _settled(self, adb: Adb, serial: str) -> Seen | None:
        """What adb says of a device, once that stays; None where it is not in the list."""
        end = time.monotonic() + self._limits.settle_s
        while True:
            seen = next((one for one in adb.devices() if one.serial == serial), None)
            if seen is None or seen.state not in _PASSING or time.monotonic() > end:
                return seen
            time.sleep(0.2)


def hardware(link: AdbLink) -> str | None:
    """The phone's own serial number; None where it tells none.

    Raises:
        LinkLostError: the connection broke, or it does not answer.
    """
    for name in _IDENTITY:
        try:
            done = link.run(["getprop", name], timeout_s=_IDENTITY_S)
        except DeviceError as error:
            raise LinkLostError(
                f"{link.serial} has not answered for {_IDENTITY_S:.0f} s",
                hint="wake it; if that does not help, restart it",
            ) from error
        found = done.stdout.decode("utf-8", "replace").strip()
        if done.status == 0 and found not in _UNKNOWN and found.isprintable():
            return found
    return None


def _require_shell(adb: Adb, serial: str) -> None:
    """``adb shell`` that tells a command's status and keeps its error output apart."""
    answer = adb.ask("-s", serial, "features")
    if answer.status == 0 and answer.text.strip() and "shell_v2" not in answer.text:
        raise DeviceError(
            f"{serial} is too old: its adb does not tell how a command ended",
            hint="edgeq needs Android 7 or newer",
        )


def _list(seen: Sequence[Seen]) -> str:
    return ", ".join(
        f"{one.serial} ({' '.join(filter(None, (one.model, one.state)))})" for one in seen
    )


def _absent(serial: str, said: str, there: Sequence[Seen]) -> ConnectError:
    others = f"; there are: {_list(there)}" if there else "; no Android device is connected"
    if ":" in serial:
        return ConnectError(
            f"{serial} cannot be reached: {said or 'adb does not list it'}",
            hint="phone and computer in one network, Wireless debugging on, and its port as shown"
            f" there; once by cable for port {WIFI_PORT}: adb tcpip {WIFI_PORT}",
        )
    return ConnectError(
        f"the device {serial} is not connected{others}",
        hint="is its cable in, and USB debugging on? look with: adb devices -l",
    )


def _refusal(seen: Seen) -> ConnectError:
    """Why a device that is there cannot be used, and the mend."""
    serial = seen.serial
    if seen.state in ("unauthorized", "authorizing"):
        return AuthError(
            f"{serial} has not allowed this computer (unauthorized)",
            hint="unlock the phone and accept 'Allow USB debugging?'; if it does not ask: revoke"
            " USB debugging authorizations in Developer options and plug it in again",
        )
    if seen.state == "no permissions":
        return AuthError(
            f"you may not use the USB device {serial} (no permissions)",
            hint="sudo apt install android-sdk-platform-tools-common, sudo adduser $USER plugdev,"
            " log in again and plug it in again",
        )
    if seen.state in _UPDATING:
        return ConnectError(
            f"{serial} is in {seen.state} mode, where no app runs",
            hint=f"start Android there: adb -s {serial} reboot",
        )
    if seen.state == "bootloader":
        return ConnectError(
            f"{serial} is in its bootloader", hint=f"start Android: fastboot -s {serial} reboot"
        )
    mend = f"adb disconnect {serial}; wake the phone" if ":" in serial else "plug it in again"
    return ConnectError(
        f"{serial} does not answer ({seen.state})", hint=f"{mend}, or: adb reconnect offline"
    )
