import errno
import hashlib
import os
import signal
import time

import pytest

from edgeq import wire
from edgeq.agent import files
from edgeq.agent.durable import Disk
from edgeq.agent.ports import FailureError
from edgeq.agent.talk import Talk

RNG_BYTES = os.urandom(3 << 20)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def part_of(path, data):
    return path.with_name(f"{path.name}.part-{sha256(data)[:16]}")


def test_a_file_comes_back_as_it_was_put(agent):
    for size in (0, 1, 1 << 20, len(RNG_BYTES)):
        data = RNG_BYTES[:size]
        assert agent.put(f"scratch/f{size}", data) == wire.Done()
        assert agent.get(f"scratch/f{size}") == data


def test_a_file_that_is_there_is_not_asked_for_again(agent):
    agent.put("runtimes/a.zip", RNG_BYTES)
    state = agent.ask(wire.Put("runtimes/a.zip", len(RNG_BYTES), sha256(RNG_BYTES)))
    assert state == wire.PutState(len(RNG_BYTES), complete=True)


def test_another_content_replaces_the_file(agent):
    agent.put("runtimes/a.zip", b"old")
    assert agent.put("runtimes/a.zip", b"new") == wire.Done()
    assert agent.get("runtimes/a.zip") == b"new"


def test_a_broken_upload_is_resumed_from_what_arrived(start, root):
    first = start()
    first.ask(wire.Put("runtimes/a.zip", len(RNG_BYTES), sha256(RNG_BYTES)))
    first.send(wire.Data(len(RNG_BYTES)), RNG_BYTES[:2_000_000])
    assert first.end() == 1
    assert not (root / "runtimes/a.zip").exists()

    second = start()
    state = second.ask(wire.Put("runtimes/a.zip", len(RNG_BYTES), sha256(RNG_BYTES)))
    assert state == wire.PutState(2_000_000, sha256(RNG_BYTES[:2_000_000]))
    rest = RNG_BYTES[2_000_000:]
    assert second.ask(wire.Data(len(rest), 2_000_000), rest) == wire.Done()
    assert (root / "runtimes/a.zip").read_bytes() == RNG_BYTES


def test_a_damaged_part_can_be_sent_anew_from_the_start(agent, root):
    path = root / "runtimes/a.zip"
    path.parent.mkdir()
    part_of(path, RNG_BYTES).write_bytes(b"damaged")
    state = agent.ask(wire.Put("runtimes/a.zip", len(RNG_BYTES), sha256(RNG_BYTES)))
    assert (state.have_bytes, state.prefix_sha256) == (7, sha256(b"damaged"))
    assert agent.ask(wire.Data(len(RNG_BYTES)), RNG_BYTES) == wire.Done()
    assert path.read_bytes() == RNG_BYTES


def test_another_content_never_resumes_a_part(agent, root):
    path = root / "runtimes/a.zip"
    path.parent.mkdir()
    part_of(path, RNG_BYTES).write_bytes(RNG_BYTES[:100])
    other = bytes(len(RNG_BYTES))
    assert agent.ask(wire.Put("runtimes/a.zip", len(other), sha256(other))) == wire.PutState()


def test_a_part_that_is_whole_needs_only_an_empty_payload(agent, root):
    path = root / "runtimes/a.zip"
    path.parent.mkdir()
    part_of(path, RNG_BYTES).write_bytes(RNG_BYTES)
    assert agent.put("runtimes/a.zip", RNG_BYTES) == wire.Done()


def test_a_wrong_hash_leaves_nothing_and_the_session_goes_on(agent, root):
    agent.ask(wire.Put("runtimes/a.zip", 4, sha256(b"good")))
    answer = agent.ask(wire.Data(4), b"evil")
    assert (answer.kind, "a.zip" in answer.message) == ("hash", True)
    assert list((root / "runtimes").iterdir()) == []
    assert agent.put("runtimes/a.zip", b"good") == wire.Done()


def test_a_refused_payload_is_thrown_away_and_the_session_goes_on(agent):
    assert agent.ask(wire.Data(len(RNG_BYTES)), RNG_BYTES).kind == "refused"
    agent.ask(wire.Put("scratch/x", 10, sha256(b"0123456789")))
    assert agent.ask(wire.Data(5), b"01234").kind == "hash"
    agent.ask(wire.Put("scratch/x", 10, sha256(b"0123456789")))
    assert agent.ask(wire.Data(7, 3), b"3456789").kind == "refused"
    assert agent.put("scratch/x", b"0123456789") == wire.Done()


def test_a_file_larger_than_the_disk_is_refused_before_it_is_sent(agent, root):
    answer = agent.ask(wire.Put("runtimes/a.zip", 1 << 60, sha256(b"")))
    assert answer.kind == "space"
    assert "MiB free" in answer.message
    assert list((root / "runtimes").iterdir()) == []


class FullDisk(Disk):
    """Has room for one piece."""

    def __init__(self):
        super().__init__()
        self.pieces = 0

    def write(self, descriptor, data):
        self.pieces += 1
        if self.pieces > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(descriptor, data)


def test_a_disk_that_fills_up_meanwhile_keeps_no_part(tmp_path):
    source, host = os.pipe()
    talk = Talk(source, os.open(os.devnull, os.O_WRONLY))
    data = RNG_BYTES[: 2 << 20]
    header = wire.encode(wire.Data(len(data)))
    if not os.fork():
        with os.fdopen(host, "wb") as pipe:
            pipe.write(header + data)
        os._exit(0)
    os.close(host)
    path = tmp_path / "a.zip"
    disk = FullDisk()
    upload = files.begin(path, wire.Put("a.zip", len(data), sha256(data)), disk)
    with pytest.raises(FailureError) as failure:
        files.receive(upload, talk.receive(), talk, disk)
    assert failure.value.kind == "space"
    assert list(tmp_path.iterdir()) == []
    talk.discard()
    assert talk.receive() is None
    os.wait()


ODD_PATHS = [
    "",
    "/etc/x",
    "../x",
    "runtimes/../../x",
    "runtimes//x",
    "./x",
    "runtimes/a\nb",
    "runtimes/a\0b",
    "runtimes/\ud800",
    "runtimes/$(touch x)",
    "runtimes/" + "a" * 300,
    "lock",
    "agents",
    "models/net/releases/v1/model.tflite",
    "models/net/current",
    "state.json",
]


def test_a_put_to_an_odd_place_is_refused(agent, root):
    for path in ODD_PATHS:
        answer = agent.ask(wire.Put(path, 1, sha256(b"x")))
        assert answer.kind == "refused", path
    assert {entry.name for entry in root.iterdir()} == {"scratch"}


def test_a_put_through_a_link_out_of_the_root_is_refused(agent, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "runtimes").symlink_to(outside)
    assert agent.put("runtimes/a.zip", b"x").kind == "refused"
    assert list(outside.iterdir()) == []


def test_a_part_that_is_a_link_is_not_followed(agent, root, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = root / "runtimes/a.zip"
    path.parent.mkdir()
    part_of(path, b"x").symlink_to(victim)
    assert agent.put("runtimes/a.zip", b"x") == wire.Done()
    assert victim.read_bytes() == b"precious"


def test_a_bad_size_or_hash_is_refused(agent):
    for size, digest in ((-1, sha256(b"")), (1, "../../x"), (1, sha256(b"").upper())):
        assert agent.ask(wire.Put("scratch/x", size, digest)).kind == "refused"


def test_get_says_what_is_missing_and_sends_regular_files_only(agent, root):
    assert agent.ask(wire.Get("scratch/none")).kind == "missing"
    assert agent.ask(wire.Get("scratch")).kind in {"refused", "io"}
    assert agent.ask(wire.Get("/dev/zero")).kind == "refused"
    os.mkfifo(root / "fifo")
    assert agent.ask(wire.Get("fifo")).kind == "refused"


def test_exists_names_those_that_are_there(agent):
    agent.put("runtimes/a.zip", b"x")
    answer = agent.ask(wire.Exists(("runtimes/a.zip", "runtimes/b.zip", "agents")))
    assert answer == wire.Existing(("runtimes/a.zip",))


def test_scratch_goes_with_the_session(start, root):
    agent = start()
    agent.put("scratch/x", b"x")
    assert agent.end() == 0
    assert list((root / "scratch").iterdir()) == []


def test_a_signal_removes_scratch_too(start, root):
    agent = start()
    agent.put("scratch/x", b"x")
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 128 + signal.SIGTERM
    assert list((root / "scratch").iterdir()) == []


def test_the_lock_sweeps_up_after_dead_sessions_but_spares_the_living(start, root):
    dead, living = start(), start()
    dead.put("scratch/x", b"x")
    living.put("scratch/x", b"x")
    dead.kill()
    stale = root / "runtimes/a.zip.part-0123456789abcdef"
    fresh = root / "runtimes/b.zip.part-0123456789abcdef"
    for path in (stale, fresh):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    os.utime(stale, (1, 1))
    assert start().ask(wire.Lock("me")) == wire.Done()
    assert living.get("scratch/x") == b"x"
    assert len(list((root / "scratch").iterdir())) == 2
    assert list((root / "runtimes").iterdir()) == [fresh]


def test_two_sessions_do_not_write_the_same_part(start, root):
    first, second = start(), start()
    data = RNG_BYTES
    put = wire.Put("runtimes/a.zip", len(data), sha256(data))
    assert [agent.ask(put) for agent in (first, second)] == [wire.PutState()] * 2
    first.send(wire.Data(len(data)), data[:1_500_000])
    part = part_of(root / "runtimes/a.zip", data)
    while not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    answer = second.ask(wire.Data(len(data)), data)
    assert (answer.kind, answer.message) == ("busy", "another session is sending a.zip")
    first.process.stdin.write(data[1_500_000:])
    first.process.stdin.flush()
    assert first.receive() == wire.Done()
    assert second.ask(put).complete
    assert second.get("runtimes/a.zip") == data
