"""How the agent learns that its host is gone, though nothing on its own machine says so."""

import os
import select
import threading
import time

import pytest

from edgeq import wire
from edgeq.agent import talk
from edgeq.agent.ports import HostGoneError


@pytest.fixture
def pipes():
    """Descriptors: the agent's input and output, and the host's ends of them."""
    (source, to_agent), (from_agent, sink) = os.pipe(), os.pipe()
    yield source, sink, to_agent, from_agent
    for descriptor in (source, sink, to_agent, from_agent):
        os.close(descriptor)


def test_a_silent_host_ends_the_wait(pipes, monkeypatch):
    monkeypatch.setattr(talk, "SILENCE_LIMIT_S", 0.05)
    with pytest.raises(HostGoneError):
        talk.Talk(*pipes[:2]).wait(60.0)


def test_a_host_that_is_heard_is_waited_for_and_its_request_kept(pipes, monkeypatch):
    monkeypatch.setattr(talk, "SILENCE_LIMIT_S", 0.5)
    ours = talk.Talk(*pipes[:2])
    over = threading.Event()

    def beat():
        while not over.wait(0.02):
            os.write(pipes[2], wire.HEARTBEAT)

    beating = threading.Thread(target=beat)
    beating.start()
    start_s = time.monotonic()
    ours.wait(1.0)
    over.set()
    beating.join()
    assert time.monotonic() - start_s >= 1.0
    os.write(pipes[2], wire.encode(wire.ListReleases()))
    assert ours.receive() == wire.ListReleases()


def test_a_hang_up_ends_the_wait(pipes):
    ours = talk.Talk(*pipes[:2])
    ours.require_host()
    os.close(pipes[2])
    try:
        with pytest.raises(HostGoneError):
            ours.wait(60.0)
    finally:
        os.dup2(pipes[3], pipes[2])  # for the fixture


def test_a_payload_that_stands_still_ends_it_once_and_for_all(pipes, monkeypatch):
    monkeypatch.setattr(talk, "STALL_LIMIT_S", 0.05)
    ours = talk.Talk(*pipes[:2])
    os.write(pipes[2], wire.encode(wire.Data(payload_bytes=8)) + b"half")
    assert ours.receive() == wire.Data(payload_bytes=8)
    piece = memoryview(bytearray(8))
    assert ours.read_into(piece) == 4
    monkeypatch.setattr(talk, "STALL_LIMIT_S", 3600.0)
    with pytest.raises(HostGoneError):
        ours.read_into(piece)


@pytest.mark.parametrize("how", ["message", "file"])
def test_a_host_that_reads_nothing_is_gone(pipes, monkeypatch, tmp_path, how):
    monkeypatch.setattr(talk, "STALL_LIMIT_S", 0.05)
    ours = talk.Talk(*pipes[:2])
    (tmp_path / "large").write_bytes(bytes(8 << 20))
    with (tmp_path / "large").open("rb") as file:
        for_ever = {
            "message": lambda: ours.send(wire.Data(8 << 20), bytes(8 << 20)),
            "file": lambda: ours.send_file(file.fileno(), 8 << 20),
        }
        with pytest.raises(HostGoneError):
            for_ever[how]()
    assert select.select([pipes[3]], [], [], 0)[0]  # some of it stands in the pipe
