import os
import subprocess
import sys

import pytest

import edgeq
from edgeq import wire
from tests.fakes import agent as agents


def test_the_agent_says_hello_first(agent, root):
    assert agent.hello.protocol == wire.PROTOCOL
    assert agent.hello.version == edgeq.__version__
    assert agent.hello.root == str(root)
    assert agent.hello.free_bytes > 0


def test_bye_ends_the_session(agent):
    agent.send(wire.Bye())
    assert agent.process.wait(10) == 0


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{}",
        b"[]",
        b'{"type": "Nonsense"}',
        b'{"type": "Put"}',
        b'{"type": "Put", "path": 1, "size_bytes": 1, "sha256": ""}',
        b'{"type": "Data", "payload_bytes": -1}',
        b'{"type": "Data", "payload_bytes": 1e3}',
        b'{"type": ["Put"]}',
        b"\xff\xfe",
        b'{"type": "Get", "path": "' + b"[" * 100,
    ],
)
def test_what_is_no_request_ends_the_session_with_a_reason(agent, line):
    agent.process.stdin.write(line + b"\n")
    agent.process.stdin.flush()
    answer = agent.receive()
    assert (answer.kind, answer.message[:13]) == ("refused", "not a request")
    assert agent.process.wait(10) == 1


def test_an_empty_line_is_only_a_sign_of_life(agent):
    agent.process.stdin.write(wire.HEARTBEAT * 3)
    assert agent.ask(wire.ListReleases()) == wire.ReleaseList()


def test_a_reply_is_no_request(agent):
    assert agent.ask(wire.Done()).kind == "refused"
    assert agent.ask(wire.Measured(3, (), ()), b"abc").kind == "refused"
    assert agent.ask(wire.Exists(())) == wire.Existing(())


def test_requests_in_one_piece_are_answered_in_order(agent):
    agent.process.stdin.write(b"".join(map(wire.encode, [wire.Lock("me"), wire.Exists(())])))
    agent.process.stdin.flush()
    assert [agent.receive(), agent.receive()] == [wire.Done(), wire.Existing(())]


def test_an_unknown_field_is_dropped(agent):
    agent.process.stdin.write(b'{"type": "Exists", "paths": [], "colour": "red"}\n')
    agent.process.stdin.flush()
    assert agent.receive() == wire.Existing(())


def test_the_root_is_made_for_the_user_alone(start, root):
    start()
    assert root.stat().st_mode & 0o777 == 0o700


def test_home_is_where_the_root_is_without_a_name(archive, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "EDGEQ_ROOT"}
    done = subprocess.run(
        [sys.executable, "-B", archive, "serve"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**environment, "HOME": str(tmp_path)},
        check=True,
    )
    assert wire.decode(done.stdout.splitlines()[0]).root == str(tmp_path / ".edgeq")


def test_other_words_are_refused(archive):
    done = subprocess.run([sys.executable, archive, "dance"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_root_that_cannot_be_made_is_told_before_hello(archive, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    agent = agents.start(archive, tmp_path / "file" / "root")
    try:
        answer = agent.receive()
        assert (answer.kind, "Not a directory" in answer.message) == ("io", True)
        assert agent.process.wait(10) == 1
    finally:
        agent.kill()


def test_a_path_that_is_no_text_is_refused(agent):
    for path in ("/\ud800", "/a\0b", "\ud800"):
        assert agent.ask(wire.Get(path)).kind == "refused"
