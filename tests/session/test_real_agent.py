"""Sessions with the real agent, over real connections that may go bad."""

import hashlib
import os

import numpy as np
import pytest

from edgeq import wire
from edgeq.archive import agent_archive, examine_script
from edgeq.conversation import Conversation
from edgeq.errors import AgentError, BusyError, DeviceError, LinkLostError, ModelError
from edgeq.examination import examine
from edgeq.session import open_session, predictor
from tests.fakes import tiny_model
from tests.servers import proxy, sshd
from tests.session.conftest import facts_of

MIB = 1 << 20
LITERT = wire.Runtime(kind="litert")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["local", "ssh"])
def session(request, connect, begin, here, server):
    return begin(connect(here if request.param == "local" else server.device()))


def test_a_file_comes_back_as_it_went_and_is_not_sent_twice(session, tmp_path):
    data = os.urandom(3 * MIB + 17)
    (tmp_path / "file").write_bytes(data)
    assert session.put("scratch/file", tmp_path / "file", sha256(data)) == len(data)
    assert session.get("scratch/file") == data
    assert session.put("scratch/file", data, sha256(data)) == 0


def test_an_empty_file_can_be_put(session):
    session.put("scratch/empty", b"", sha256(b""))
    assert session.get("scratch/empty") == b""


def test_progress_goes_from_nothing_to_all(session):
    heard = []
    data = os.urandom(2 * MIB)
    session.put("scratch/x", data, sha256(data), lambda *words: heard.append(words))
    assert heard[0] == ("push", 0, len(data))
    assert heard[-1] == ("push", len(data), len(data))


def test_a_wrong_hash_is_refused_and_the_session_goes_on(session):
    with pytest.raises(DeviceError, match="SHA-256"):
        session.put("scratch/x", b"data", sha256(b"other"))
    assert session.exists(["scratch/x"]) == frozenset()
    assert session.put("scratch/x", b"data", sha256(b"data")) == 4


def test_a_path_outside_is_refused(session):
    with pytest.raises(DeviceError):
        session.put("../x", b"data", sha256(b"data"))


def test_outputs_are_those_of_the_model(session, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_model.float_model())
    inputs = np.arange(8, dtype=np.float32).reshape(2, 4)
    (outputs,) = predictor(session, LITERT)(model, [inputs])
    expected = inputs @ tiny_model.WEIGHTS.T + tiny_model.BIAS
    assert np.allclose(outputs, expected)
    assert outputs.dtype == np.float32


def test_a_file_that_is_no_model_is_an_error_of_the_model(session, tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"not a model")
    with pytest.raises(ModelError):
        predictor(session, LITERT)(tmp_path / "m.tflite", [np.zeros((1, 4), np.float32)])


def test_a_measurement_comes_home_checked(session, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_model.float_model())
    session.put("scratch/m.tflite", model, sha256(model.read_bytes()))
    request = wire.Measure(
        model="scratch/m.tflite",
        inputs="",
        runtime=LITERT,
        processes=2,
        runs=50,
        seconds=0.1,
        warmup_s=0.0,
        warmup_max_s=0.2,
    )
    taken = session.measure(request)
    assert len(taken.raw.processes) == 2
    assert sum(len(process.measured_ns) for process in taken.raw.processes) >= 50


def test_releases_are_installed_once_and_go_back(session):
    session.lock("a test")
    first = {"model.tflite": os.urandom(MIB), "manifest.json": b"1"}
    second = {**first, "manifest.json": b"2"}
    assert session.install("net", "1-a", first) == MIB + 1
    session.commit("net", "1-a")
    assert session.install("net", "2-b", second) == 1
    assert session.install("net", "2-b", second) == 0
    assert session.commit("net", "2-b").previous == "1-a"
    assert session.rollback("net").current == "1-a"
    (listed,) = session.releases()
    assert (listed.model, listed.current, listed.previous) == ("net", "1-a", "2-b")


def test_a_second_session_is_told_busy_and_by_whom(connect, begin, server):
    begin(connect(server.device())).lock("alice on laptop")
    with pytest.raises(BusyError, match="alice on laptop"):
        begin(connect(server.device())).lock("bob")


def test_the_agent_is_sent_once(connect, begin, tmp_path):
    with sshd.running(tmp_path / "server") as server:
        first = begin(connect(server.device()))
        second = begin(connect(server.device()))
        assert first.agent_bytes_sent == len(agent_archive())
        assert second.agent_bytes_sent == 0


def test_an_agent_that_is_damaged_on_the_device_is_sent_again(connect, begin, tmp_path):
    with sshd.running(tmp_path / "server") as server:
        begin(connect(server.device())).close()
        (archive,) = (server.home / ".edgeq" / "agents").glob("*.pyz")
        archive.write_bytes(archive.read_bytes()[:1000])
        session = begin(connect(server.device()))
        assert session.agent_bytes_sent == len(agent_archive())
        assert archive.read_bytes() == agent_archive()


def test_a_noisy_start_up_file_does_no_harm(connect, begin, tmp_path):
    noise = 'Welcome!\n{"not": "ours"}\n\x1b[31mred\x1b[0m\nno line end '
    options = sshd.Options(noise=noise, banner="Keep out\n")
    with sshd.running(tmp_path / "server", options) as server:
        link = connect(server.device())
        facts = examine(link, examine_script(), None, "bench")
        assert facts.home == str(server.home)
        assert begin(link).put("scratch/x", b"data", sha256(b"data")) == 4


def test_only_the_owner_can_look_at_what_is_on_the_device(connect, begin, tmp_path):
    with sshd.running(tmp_path / "server") as server:
        begin(connect(server.device()))
        root = server.home / ".edgeq"
        modes = {path.relative_to(root): path.stat().st_mode & 0o077 for path in root.rglob("*")}
        assert root.stat().st_mode & 0o077 == 0
        assert set(modes.values()) == {0}


def test_a_python_that_is_not_there_is_told_with_its_words(connect, server):
    link = connect(server.device())
    with pytest.raises(AgentError, match=r"ended with status 127: .*nowhere/python"):
        open_session(
            link, facts_of(link), python="/nowhere/python", agent=agent_archive(), where="bench"
        )


def test_a_device_that_cannot_write_larger_files_says_so_and_shows_none(connect, begin, tmp_path):
    with sshd.running(tmp_path / "server", sshd.Options(file_limit_kib=512)) as server:
        session = begin(connect(server.device()))
        data = os.urandom(MIB)
        with pytest.raises(DeviceError, match="File too large"):
            session.put("runtimes/big.zip", data, sha256(data))
        assert list((server.home / ".edgeq" / "runtimes").iterdir()) == []
        assert session.put("runtimes/small.zip", data[:1000], sha256(data[:1000])) == 1000


def test_a_push_that_was_cut_goes_on_where_it_broke(connect, begin, server):
    data = os.urandom(12 * MIB)
    fault = proxy.Fault(kind="cut", after_bytes=6 * MIB)
    with proxy.running(server.port, fault) as between:
        device = server.device(port=between.port)
        first = begin(connect(device))
        with pytest.raises(LinkLostError):
            first.put("runtimes/cut.zip", data, sha256(data))
        runtimes = server.home / ".edgeq" / "runtimes"
        assert not (runtimes / "cut.zip").exists()
        first.close()
        second = begin(connect(device))
        sent = second.put("runtimes/cut.zip", data, sha256(data))
        assert 0 < sent < len(data)
        assert (runtimes / "cut.zip").read_bytes() == data
        assert [path.name for path in runtimes.iterdir()] == ["cut.zip"]


def test_a_part_of_other_content_is_not_taken_over(connect, begin, server):
    data, digest = os.urandom(2 * MIB), ""
    digest = sha256(data)
    session = begin(connect(server.device()))
    part = server.home / ".edgeq" / "runtimes" / f"swapped.zip.part-{digest[:16]}"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(os.urandom(MIB))
    assert session.put("runtimes/swapped.zip", data, digest) == len(data)
    assert session.get("runtimes/swapped.zip") == data


def test_a_link_that_swallows_everything_ends_within_its_limit(connect, begin, server):
    data = os.urandom(40 * MIB)
    fault = proxy.Fault(kind="stall", after_bytes=3 * MIB)
    with proxy.running(server.port, fault) as between:
        link = connect(server.device(port=between.port), dead_after_s=0.5, stall_s=0.5)
        session = begin(link)
        with pytest.raises(LinkLostError):
            session.put("runtimes/stalled.zip", data, sha256(data))
        with pytest.raises(LinkLostError, match="over after an earlier error"):
            session.exists(["x"])


def test_a_device_that_says_nothing_ends_within_its_limit(connect, server):
    talk = Conversation(connect(server.device()).open(["sleep", "5"]), "bench")
    with pytest.raises(LinkLostError, match=r"bench has said nothing for 0\.2 s"):
        talk.greet(limit_s=0.2)


def test_a_slow_link_is_only_slow(connect, begin, server):
    fault = proxy.Fault(kind="throttle", bytes_per_s=20 * MIB)
    data = os.urandom(2 * MIB)
    with proxy.running(server.port, fault) as between:
        session = begin(connect(server.device(port=between.port)))
        assert session.put("scratch/x", data, sha256(data)) == len(data)
