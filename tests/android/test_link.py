"""Over adb, what every transport does, with Android's own shell at the other end."""

import pytest

from edgeq.core.inventory import Device
from edgeq.errors import DeviceError, LinkLostError
from tests.transports.test_contract import *  # noqa: F403 - the same tests, over another link


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def lab_phone(bench):
    return bench.phone()


@pytest.fixture
def link(bench, lab_phone):
    device = Device(name="phone", profile="android", transport="adb", serial=lab_phone.address)
    opened = bench.transport().connect(device)
    yield opened
    opened.close()


def test_a_command_that_a_signal_ended_says_so(link):
    assert link.run(["sh", "-c", "kill -9 $$"]).status == -9


def test_a_phone_that_goes_away_is_a_lost_link_and_no_success(link, lab_phone):
    channel = link.open(["sh", "-c", "echo begun; sleep 60"])
    assert channel.receive(10) == b"begun\n"
    lab_phone.kill()
    with pytest.raises(LinkLostError, match="broke"):
        channel.receive(20)
    with pytest.raises(LinkLostError):
        link.run(["true"])


def test_what_is_sent_to_a_phone_that_went_away_is_a_lost_link(link, lab_phone):
    channel = link.open(["cat"])
    lab_phone.kill()
    with pytest.raises(LinkLostError):
        channel.send(b"x" * (64 << 20))


def test_a_command_line_that_adb_cannot_carry_is_refused_here(link):
    with pytest.raises(DeviceError, match="too long"):
        link.run(["echo", "x" * 70_000])
