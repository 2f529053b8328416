"""Every state that adb knows a device in: one sentence, a mend, exit code 4."""

import socket

import pytest

from edgeq.core.inventory import Device
from edgeq.errors import AuthError, ConnectError, HostKeyError, LinkLostError
from edgeq.transports import adb, adb_client
from edgeq.transports.adb_client import Seen

LISTED = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
9A281FFAZ001AB         device usb:1-1 product:flame model:Pixel_4 device:flame transport_id:3
192.168.1.7:5555       offline transport_id:9
????????????           no permissions (missing udev rules?); see [http://x.example] usb:1-2
emulator-5554          unauthorized transport_id:5
R58M\tunauthorized
FA79F1A00001           recovery usb:1-4 product:omni model:x device:y transport_id:7
adb-9A281-xyz._adb-tls-connect._tcp device product:p model:M device:d transport_id:8

"""


def test_the_list_is_read_in_all_its_forms():
    assert [(one.serial, one.state) for one in adb_client.parse_devices(LISTED)] == [
        ("9A281FFAZ001AB", "device"),
        ("192.168.1.7:5555", "offline"),
        ("????????????", "no permissions"),
        ("emulator-5554", "unauthorized"),
        ("R58M", "unauthorized"),
        ("FA79F1A00001", "recovery"),
        ("adb-9A281-xyz._adb-tls-connect._tcp", "device"),
    ]
    assert adb_client.parse_devices(LISTED)[0].model == "Pixel 4"


@pytest.mark.parametrize(
    ("state", "kind", "mend"),
    [
        ("unauthorized", AuthError, "Allow USB debugging"),
        ("authorizing", AuthError, "Allow USB debugging"),
        ("no permissions", AuthError, "plugdev"),
        ("recovery", ConnectError, "adb -s X reboot"),
        ("sideload", ConnectError, "adb -s X reboot"),
        ("bootloader", ConnectError, "fastboot -s X reboot"),
        ("offline", ConnectError, "reconnect"),
        ("host", ConnectError, "reconnect"),
    ],
)
def test_a_device_that_is_not_ready_has_a_sentence_and_a_mend(state, kind, mend):
    error = adb._refusal(Seen(serial="X", state=state))
    assert type(error) is kind
    assert error.exit_code == 4
    assert "\n" not in error.message
    assert state.split(" ")[-1] in error.message or state == "authorizing"
    assert mend in error.hint


def phone(serial, **more):
    return Device(name="phone", profile="android", transport="adb", serial=serial, **more)


def test_no_device_says_what_to_do(bench):
    with pytest.raises(ConnectError, match="no Android device is connected") as caught:
        bench.transport().choose(None)
    assert "USB debugging" in caught.value.hint
    with pytest.raises(ConnectError, match="ABC is not connected; no Android device"):
        bench.transport().connect(phone("ABC"))


def test_one_device_needs_no_name_and_two_are_listed(bench):
    first = bench.phone("first", model="Pixel_4")
    assert bench.transport().choose(first.address).serial == first.address
    assert bench.transport().choose(None).serial == first.address
    second = bench.phone("second", serial="LAB0002")
    bench.transport().choose(second.address)
    with pytest.raises(ConnectError, match="2 Android devices are connected") as caught:
        bench.transport().choose(None)
    assert f"{first.address} (Pixel 4 device)" in caught.value.message
    assert second.address in caught.value.message
    assert "--serial" in caught.value.hint


def test_a_phone_that_refuses_this_computer_says_unauthorized(bench):
    refusing = bench.phone(auth="refuse")
    with pytest.raises(AuthError, match="has not allowed this computer") as caught:
        bench.transport(settle_s=1).connect(phone(refusing.address))
    assert "Allow USB debugging" in caught.value.hint


def test_a_phone_whose_dialog_is_accepted_is_ready(bench):
    accepting = bench.phone(auth="accept")
    bench.transport().connect(phone(accepting.address)).close()


def test_another_phone_at_the_same_address_is_refused(bench):
    other = bench.phone(serial="OTHER")
    with pytest.raises(HostKeyError, match="is not phone: its serial number is OTHER, pinned is L"):
        bench.transport().connect(phone(other.address, hardware="LAB0001"))


def test_a_phone_that_was_away_is_reached_again(bench):
    first = bench.phone()
    bench.transport().connect(phone(first.address)).close()
    port = first.port
    first.kill()
    with pytest.raises(ConnectError, match="cannot be reached"):
        bench.transport().connect(phone(f"127.0.0.1:{port}"))
    second = bench.phone("again", port=port)
    bench.transport().connect(phone(second.address)).close()


def test_a_phone_that_hangs_is_given_up(bench, monkeypatch):
    hanging = bench.phone()
    bench.transport().connect(phone(hanging.address)).close()
    hanging.stop()
    monkeypatch.setattr(adb, "_IDENTITY_S", 1.0)
    with pytest.raises(ConnectError):
        bench.transport(settle_s=1, connect_s=5).connect(phone(hanging.address))


def test_without_adb_the_package_is_named(tmp_path):
    with pytest.raises(ConnectError, match="is not installed here") as caught:
        adb.make({"PATH": str(tmp_path)}).choose(None)
    assert "apt install adb" in caught.value.hint


def test_a_server_of_another_version_is_left_alone(bench):
    with socket.create_server(("127.0.0.1", 0)) as server:
        bench.environment["ANDROID_ADB_SERVER_PORT"] = str(server.getsockname()[1])
        import threading

        asked = []

        def answer():
            for _ in range(2):
                connection, _address = server.accept()
                asked.append(connection.recv(64))
                connection.sendall(b"OKAY0004001f")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ConnectError, match="has version 31") as caught:
            bench.transport().choose(None)
    assert asked == [b"000chost:version"]
    assert "ADB=" in caught.value.hint


def test_a_server_that_does_not_answer_is_no_hang(bench, monkeypatch):
    monkeypatch.setattr(adb_client, "_HELLO_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        bench.environment["ANDROID_ADB_SERVER_PORT"] = str(server.getsockname()[1])
        with pytest.raises(ConnectError, match="does not answer"):
            bench.transport().choose(None)


def test_the_link_that_broke_is_a_connect_error():
    assert LinkLostError("x").exit_code == 4
