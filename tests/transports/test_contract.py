"""What every transport does, over each of them."""

import pytest

from edgeq.core.inventory import Device
from edgeq.errors import DeviceError
from edgeq.transports import local, ssh
from tests.fakes.device import FakeTransport

HOSTILE = [
    "a b", "$(touch x)", "`touch x`", "; touch x", "-n", "'", '"', "\\", "*", "~", "!", "#x", "&",
    "line\nbreak", "tab\t", "ünï", "", "$HOME", "%s",
]  # fmt: skip


@pytest.fixture(params=["local", "ssh", "fake"])
def link(request, home):  # noqa: ARG001 - no key or configuration of the person who runs this
    match request.param:
        case "local":
            opened = local.make().connect(Device(name="here", profile="host", transport="local"))
        case "ssh":
            server = request.getfixturevalue("server")
            opened = ssh.make().connect(server.device())
        case _:
            opened = FakeTransport().connect(Device(name="fake", profile="linux", host="fake"))
    yield opened
    opened.close()


def test_arguments_arrive_as_they_are_and_no_shell_reads_them(link, home):
    done = link.run(["printf", "%s|", *HOSTILE])
    assert done.stdout.decode() == "".join(f"{word}|" for word in HOSTILE)
    assert done.status == 0
    assert not (home / "x").exists()


def test_input_of_a_megabyte_comes_back(link):
    data = bytes(range(256)) * 4096
    assert link.run(["cat"], stdin=data).stdout == data


def test_status_and_error_output_are_told(link):
    done = link.run(["sh", "-c", "echo oops >&2; exit 3"])
    assert (done.status, done.stdout, done.stderr) == (3, b"", b"oops\n")


def test_input_that_the_command_does_not_read_is_no_error(link):
    assert link.run(["true"], stdin=b"x" * 300_000).status == 0


def test_a_command_that_does_not_end_is_an_error(link):
    with pytest.raises(DeviceError, match=r"sleep did not end within 0\.2 s"):
        link.run(["sleep", "30"], timeout_s=0.2)


def test_a_talk_goes_back_and_forth(link):
    channel = link.open(["cat"])
    for word in (b"one", b"two"):
        channel.send(word)
        assert channel.receive(10) == word
    assert channel.close().status == 0


def test_silence_is_a_timeout_and_the_talk_goes_on(link):
    channel = link.open(["cat"])
    with pytest.raises(TimeoutError):
        channel.receive(0.05)
    channel.send(b"still there")
    assert channel.receive(10) == b"still there"
    channel.close()


def test_the_end_of_the_output_is_empty(link):
    channel = link.open(["true"])
    assert channel.receive(10) == b""
    assert channel.close().status == 0


def test_sending_to_a_command_that_ended_is_a_broken_pipe(link):
    channel = link.open(["true"])
    assert channel.receive(10) == b""
    with pytest.raises(BrokenPipeError):
        channel.send(b"x" * (8 << 20))
    channel.close()


def test_the_end_of_the_error_output_is_kept(link):
    channel = link.open(["sh", "-c", "echo oops >&2; exit 3"])
    assert channel.receive(10) == b""
    done = channel.close()
    assert (done.status, done.stderr) == (3, b"oops\n")
