"""The inventory: devices.toml."""

import multiprocessing
import os

import pytest

from edgeq import devices
from edgeq.core.inventory import Device
from edgeq.errors import ConfigError, HostError, UsageError
from edgeq.places import find

PI = Device(
    name="pi",
    profile="pi4",
    host="10.0.0.7",
    port=2222,
    user="pi",
    identity="/home/me/.ssh/id",
    host_key="ssh-ed25519 AAAA",
)


@pytest.fixture
def places(tmp_path):
    return find({"EDGEQ_HOME": str(tmp_path / "edgeq")})


def test_no_file_is_no_devices(places):
    assert devices.load(places).devices == ()


def test_what_was_added_is_there_and_gone_when_removed(places):
    second = Device(name="here", profile="host", transport="local")
    devices.add(places, PI)
    devices.add(places, second)
    assert set(devices.load(places).devices) == {PI, second}
    assert devices.remove(places, "pi") == PI
    assert devices.load(places).devices == (second,)


def test_the_file_is_its_owners_alone(places):
    devices.add(places, PI)
    assert (places.config / devices.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    ['"', "\\", "'''", "a\nb", "\x7f", "\x00", "\x1b[31m", "ünï", "#", "]", "= x", "\ud7ff"],
)
def test_any_text_comes_back_as_it_was(places, text):
    device = PI.model_copy(update={"identity": text, "python": f"/opt/{text}"})
    devices.add(places, device)
    assert devices.load(places).devices == (device,)


def test_a_name_is_added_once(places):
    devices.add(places, PI)
    with pytest.raises(UsageError, match="there is a device pi already") as caught:
        devices.add(places, PI.model_copy(update={"host": "other"}))
    assert "edgeq devices remove pi" in caught.value.hint
    assert devices.load(places).devices == (PI,)


def test_an_unknown_name_gets_the_nearest(places):
    devices.add(places, PI.model_copy(update={"name": "kitchen"}))
    with pytest.raises(UsageError) as caught:
        devices.find(devices.load(places), "kitchn")
    assert caught.value.hint == "did you mean kitchen?"
    assert caught.value.exit_code == 2


def test_a_profile_in_a_devices_place_gets_the_line_to_type(places):
    with pytest.raises(UsageError, match="pi4 is a profile") as caught:
        devices.find(devices.load(places), "pi4", profiles=["pi4", "pi5"])
    assert caught.value.hint == "edgeq devices add pi4 --profile pi4 --host USER@HOST"


def test_a_device_may_be_called_like_a_profile(places):
    device = PI.model_copy(update={"name": "pi4"})
    devices.add(places, device)
    assert devices.find(devices.load(places), "pi4", profiles=["pi4"]) == device


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 2\n", "version"),
        ("version = 1\n[[devices]]\nname = 'a'\n", "profile"),
        ("version = 1\n[[devices]]\nname = 'a'\nprofile = 'p'\nhots = 'x'\n", "hots"),
        ("version = 1\n[[devices]]\nname = '-a'\nprofile = 'p'\n", "name"),
        ("version = 1\n[[devices]]\nname = 'a'\nprofile = 'p'\nport = 0\n", "port"),
        ("not toml", "TOML"),
        (
            "version = 1\n" + "[[devices]]\nname = 'a'\nprofile = 'p'\n" * 2,
            "the device a stands twice",
        ),
    ],
)
def test_a_wrong_file_is_told_and_left_alone(places, text, words):
    places.config.mkdir(parents=True)
    path = places.config / devices.FILE
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        devices.add(places, PI)
    assert str(path) in caught.value.message
    assert path.read_text() == text


@pytest.mark.parametrize(
    "name", ["", "$(touch x)", "-oProxyCommand=x", "a\nb", "a b", "../x", "a" * 65, "ü", "'"]
)
def test_a_hostile_name_is_refused(name):
    with pytest.raises(UsageError, match="name cannot be"):
        devices.make({"name": name, "profile": "pi4", "host": "h"})


def test_a_folder_that_cannot_be_written_is_told(places):
    places.config.parent.mkdir(parents=True)
    places.config.write_text("a file in the folder's place")
    with pytest.raises((HostError, ConfigError)):
        devices.add(places, PI)


def add_some(home, first):
    for number in range(first, first + 10):
        devices.add(find({"EDGEQ_HOME": home}), PI.model_copy(update={"name": f"pi{number}"}))
    os._exit(0)


def test_two_writers_lose_nothing(places, tmp_path):
    context = multiprocessing.get_context("spawn")
    home = str(tmp_path / "edgeq")
    writers = [context.Process(target=add_some, args=(home, first)) for first in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(devices.load(places).devices) == 20
    assert sorted(path.name for path in places.config.iterdir()) == [
        ".devices.toml.lock", "devices.toml",
    ]  # fmt: skip
