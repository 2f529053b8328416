"""SSH servers and start-up files as they are found: each test first shows the oddity itself."""

import os
import threading

import numpy as np
import paramiko
import pytest

from edgeq import wire
from edgeq.archive import examine_script
from edgeq.errors import DeviceError, LinkLostError
from edgeq.examination import examine
from edgeq.transports import ssh_library
from tests.fakes import tiny_model
from tests.servers import proxy, sshd
from tests.session.test_real_agent import LITERT, sha256

ODD = sshd.Options(
    banner="Keep out\n",
    noise="Welcome to the bench",
    startup="echo this machine will be replaced >&2; sleep 0.3",
    settings=("MaxSessions 1",),
)
MEASURE = wire.Measure(
    model="scratch/m.tflite", inputs="", runtime=LITERT, processes=1, runs=5, seconds=0.0,
    warmup_s=0.0, warmup_max_s=0.2,
)  # fmt: skip


@pytest.fixture
def odd(tmp_path):
    with sshd.running(tmp_path / "odd", ODD) as server:
        yield server


def test_one_session_no_sftp_a_banner_and_noise_are_enough_for_all_of_it(connect, begin, odd):
    link = connect(odd.device())
    said = link.run(["true"])
    assert said.stdout == b"Welcome to the bench"
    assert said.stderr == b"this machine will be replaced\n"
    assert not _has_sftp(odd)
    facts = examine(link, examine_script(), None, "bench")
    assert facts.home == str(odd.home)
    session = begin(link)
    with pytest.raises(DeviceError, match="allows no further session"):
        link.run(["true"])
    _install(session)
    model = tiny_model.float_model()
    session.put("scratch/m.tflite", model, sha256(model))
    assert session.measure(MEASURE).raw.processes
    session.close()
    assert link.run(["true"]).status == 0
    assert begin(link).releases()[0].current == "1-a"


def test_a_start_up_file_that_exits_is_named(connect, tmp_path):
    options = sshd.Options(startup="exit 0")
    with sshd.running(tmp_path / "exits", options) as server:
        link = connect(server.device())
        assert link.run(["echo", "x"]).stdout == b""
        with pytest.raises(DeviceError, match="could not be examined") as caught:
            examine(link, examine_script(), None, "bench")
    assert "~/.bashrc" in caught.value.hint


def test_a_link_that_is_down_for_a_while_is_waited_for(connect, begin, server):
    fault = proxy.Fault(kind="pause", after_bytes=3 << 20, pause_s=3.0)
    data = os.urandom(6 << 20)
    with proxy.running(server.port, fault) as between:
        session = begin(connect(server.device(port=between.port)))
        session.put("scratch/x", data, sha256(data))
        assert between.back_at_s > 0
        assert session.get("scratch/x") == data


def test_a_silent_link_ends_though_tcp_says_that_all_is_well(connect, begin, server):
    """The proxy acknowledges in the device's place, as a jump host would."""
    fault = proxy.Fault(kind="stall", after_bytes=400_000)
    with proxy.running(server.port, fault) as between:
        link = connect(server.device(port=between.port), dead_after_s=4.0, keepalive_s=0.5)
        session = begin(link)
        data = os.urandom(400_000)
        session_over = threading.Timer(60.0, link.close)  # without the limit, a failure, no hang
        session_over.start()
        with pytest.raises(LinkLostError, match="silent for") as caught:
            session.put("scratch/x", data, sha256(data))
        session_over.cancel()
    assert caught.value.exit_code == 4
    assert "start again" in caught.value.hint


def test_an_idle_link_whose_device_lives_stands(connect, begin, server):
    link = connect(server.device(), dead_after_s=1.5, keepalive_s=0.2)
    session = begin(link)
    threading.Event().wait(4.0)  # more than twice the limit
    assert session.exists(["nothing"]) == frozenset()


def test_an_agent_that_is_killed_is_told_with_the_mend(connect, begin, tmp_path):
    with sshd.running(tmp_path / "server") as server:
        link = connect(server.device())
        session = begin(link)
        session.put("scratch/in.npz", b"x", sha256(b"x"))
        (scratch,) = (server.home / ".edgeq" / "scratch").iterdir()
        os.kill(int(scratch.name.partition("-")[0]), 9)
        with pytest.raises(DeviceError, match="was killed") as caught:
            session.predict(
                wire.Predict(model="scratch/m", inputs="", outputs="", runtime=LITERT),
                [np.zeros((1, 4), np.float32)],
            )
        assert "start again" in caught.value.hint
        after = begin(link)
        after.lock("the next one")
        assert [path.name for path in (server.home / ".edgeq" / "scratch").iterdir()] != [
            scratch.name
        ]


def _install(session):
    session.lock("a test")
    session.install("net", "1-a", {"model.tflite": os.urandom(1 << 20), "manifest.json": b"1"})
    assert session.commit("net", "1-a").current == "1-a"


def _has_sftp(server):
    """By paramiko's own client, which edgeq does not use."""
    assert ssh_library.paramiko is paramiko
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", server.port, server.user, key_filename=str(server.identity),
            allow_agent=False, look_for_keys=False,
        )  # fmt: skip
        try:
            client.open_sftp()
        except (paramiko.SSHException, EOFError):
            return False
        return True
