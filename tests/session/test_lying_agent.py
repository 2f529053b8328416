"""A device's answers are input from outside: what cannot be true is refused."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from edgeq import arrays, wire
from edgeq.core.machine import Facts
from edgeq.errors import (
    AgentError,
    BusyError,
    DeviceError,
    EdgeqError,
    LinkLostError,
    ModelError,
    SpaceError,
    TrialError,
)
from edgeq.session import open_session
from tests.fakes import measured
from tests.fakes.device import HELLO, ROOT, FakeLink

MS = 1_000_000
LITERT = wire.Runtime(kind="litert")
PREDICT = wire.Predict(model="m", inputs="", outputs="", runtime=LITERT, timeout_s=0.1)
MEASURE = wire.Measure(model="m", inputs="", runtime=LITERT, processes=1)
FACTS = Facts(
    system="Linux",
    architecture="aarch64",
    kernel="6.1",
    home="/home/fake",
    root=ROOT,
    wall_time_s=1.0,
)


def session(answer, hello=HELLO):
    """A session with an agent that answers so."""
    link = FakeLink(answer, hello)
    return open_session(link, FACTS, python="/usr/bin/python3", agent=b"", where="pi")


def always(*pieces):
    return lambda _request, _payload: pieces


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (wire.Hello(protocol=99, version="9", python="3", root="/r"), "protocol 99"),
        (wire.Hello(protocol=1, version="1", python="3", root="relative"), "not absolute"),
        (b'{"type": "Hello"}\n', "Hello"),
        (b'{"type": "Nonsense"}\n', "not a message"),
        (b'{"type": "Hello", "protocol": "1"}\n', "expected"),
        (b'{"type": "Done"}\n', "answered Done where Hello was due"),
        (b'{"type": "' + b"[" * 100_000 + b"\n", "not JSON"),
    ],
)
def test_a_greeting_that_cannot_be_is_refused(hello, words):
    with pytest.raises(AgentError, match=words):
        session(always(), hello)


@pytest.mark.parametrize(
    ("kind", "error", "exit_code"),
    [
        ("busy", BusyError, 1),
        ("space", SpaceError, 1),
        ("hash", DeviceError, 1),
        ("missing", DeviceError, 1),
        ("io", DeviceError, 1),
        ("runtime", DeviceError, 1),
        ("refused", AgentError, 1),
        ("internal", AgentError, 1),
        ("something new", AgentError, 1),
        ("model", ModelError, 5),
        ("crash", TrialError, 3),
        ("hang", TrialError, 3),
        ("memory", TrialError, 3),
    ],
)
def test_each_kind_of_failure_is_an_error_of_its_own(kind, error, exit_code):
    failed = wire.Failed(kind=kind, message="what happened", detail="SIGSEGV")
    talk = session(always(failed))
    with pytest.raises(error, match="what happened") as caught:
        talk.releases()
    assert type(caught.value) is error
    assert caught.value.exit_code == exit_code
    assert "pi" in caught.value.message
    # The session goes on: the next request may do better.
    with pytest.raises(error):
        talk.releases()


def test_a_crash_names_the_signal():
    talk = session(always(wire.Failed(kind="crash", message="it fell", detail="SIGSEGV")))
    with pytest.raises(TrialError, match=r"the model crashed on pi: it fell \(SIGSEGV\)"):
        talk.measure(MEASURE)


def test_a_full_disk_at_the_start_is_no_room_for_the_agent():
    with pytest.raises(SpaceError, match="disk of pi is full"):
        session(always(), b'{"type": "Failed", "kind": "space", "message": "no room"}\n')


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (wire.PutState(have_bytes=5), "5 of 4 bytes"),
        (wire.PutState(have_bytes=-1), "-1 of 4 bytes"),
        (wire.Done(), "Done where PutState"),
        (b"garbage\n", "not JSON"),
        (b'{"type": "PutState", "have_bytes": NaN}\n', "expected"),
        (b'{"type": "PutState", "have_bytes": 1.5}\n', "expected"),
    ],
)
def test_a_wrong_answer_to_put_is_refused(reply, words):
    with pytest.raises(AgentError, match=words):
        session(always(reply)).put("scratch/x", b"data", "0" * 64)


def test_a_prefix_that_is_not_ours_is_sent_again_from_the_start():
    seen = []

    def answer(request, payload):
        seen.append((request, payload))
        if isinstance(request, wire.Put):
            return (wire.PutState(have_bytes=2, prefix_sha256="f" * 64),)
        return (wire.Done(),)

    assert session(answer).put("scratch/x", b"data", "0" * 64) == 4
    assert seen[-1] == (wire.Data(payload_bytes=4, offset_bytes=0), b"data")


@pytest.mark.parametrize("size", [-1, 1 << 40])
def test_a_file_of_an_impossible_size_is_refused(size):
    with pytest.raises(AgentError, match=f"has {size} bytes"):
        session(always(wire.Data(payload_bytes=size))).get("x")


def test_data_that_stops_in_the_middle_is_the_end_of_the_agent():
    talk = session(always(wire.Data(payload_bytes=10), b"four", EOFError))
    with pytest.raises(AgentError, match="agent on pi ended"):
        talk.get("x")


def test_a_staged_release_that_lacks_foreign_files_is_refused():
    talk = session(always(wire.Staged(folder="f", missing=("../../.bashrc",))))
    with pytest.raises(AgentError, match="not of the release"):
        talk.install("net", "1-a", {"model.tflite": b"x"})


def outputs(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def pickled():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        array = io.BytesIO()
        np.lib.format.write_array(array, np.array([None], dtype=object), allow_pickle=True)
        archive.writestr("0.npy", array.getvalue())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"not a zip",
        pickle.dumps([1]),
        pickled(),
        outputs(),
        outputs(**{"0": np.zeros((3, 1), np.float32)}),
        outputs(**{"0": np.float32(1)}),
        outputs(**{"1": np.zeros((2, 1), np.float32)}),
        outputs(**{"../x": np.zeros((2, 1), np.float32)}),
    ],
)
def test_outputs_that_are_none_are_refused(data):
    with pytest.raises(AgentError, match="outputs"):
        session(predicting(data)).predict(PREDICT, [np.zeros((2, 4), np.float32)])


def test_outputs_that_unpack_to_more_than_they_may_are_refused(monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 1000)
    data = outputs(**{"0": np.zeros((2, 1000), np.float32)})
    with pytest.raises(AgentError, match="unpack to too much"):
        session(predicting(data)).predict(PREDICT, [np.zeros((2, 4), np.float32)])


def predicting(data):
    def answer(request, _payload):
        match request:
            case wire.Put():
                return (wire.PutState(complete=True),)
            case wire.Predict():
                return (wire.Progress("predict", 1, 2), wire.Predicted(samples=2, seconds=0.1))
            case _:
                return (wire.Data(payload_bytes=len(data)), data)

    return answer


def test_a_good_measurement_passes():
    message, payload = measured.measure([[MS] * 20])
    taken = session(always(wire.Progress("run", 1, 2), message, payload)).measure(MEASURE)
    assert taken.payload == payload


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"processes": ()}, "runs"),
        ({"payload_bytes": 1 << 50}, "bytes for"),
        ({"payload_bytes": 8}, "bytes for"),
        ({"cpu_busy_s": -1.0}, "CPU time"),
        ({"cpu_busy_s": float("nan")}, "CPU time"),
        ({"clock_step_s": float("inf")}, "clock step"),
        ({"processes": (measured.process_run(1 << 40),)}, "runs"),
        ({"processes": (measured.process_run(-1),)}, "runs"),
        ({"processes": (measured.process_run(10), measured.process_run(10))}, "for 2 processes"),
        ({"spans": (wire.Span("run", 5, 1),)}, "span"),
        ({"spans": (wire.Span("lunch", 1, 5),)}, "span"),
    ],
)
def test_figures_that_cannot_be_are_refused(change, words):
    message, payload = measured.measure([[MS] * 20], **change)
    with pytest.raises(AgentError, match=words):
        session(always(message, payload)).measure(MEASURE)


@pytest.mark.parametrize("latency", [0, -5, 1 << 62])
def test_latencies_that_cannot_be_are_refused(latency):
    message, payload = measured.measure([[MS] * 20])
    forged = payload[: 20 * 8] + np.full(20, latency, "<i8").tobytes()
    with pytest.raises(AgentError, match="inference"):
        session(always(message, forged)).measure(MEASURE)


def test_a_link_that_breaks_in_the_middle_is_told_and_ends_the_session():
    talk = session(always(wire.Progress("run", 1, 2), LinkLostError))
    with pytest.raises(LinkLostError):
        talk.measure(MEASURE)
    with pytest.raises(LinkLostError, match="over after an earlier error"):
        talk.releases()


def test_an_interrupted_wait_ends_the_session():
    """A reply that is still under way must not be taken for the next one's."""

    def interrupt(_phase, _done, _total):
        raise KeyboardInterrupt

    talk = session(always(wire.Progress("run", 1, 2), *measured.measure([[MS] * 20])))
    with pytest.raises(KeyboardInterrupt):
        talk.measure(MEASURE, interrupt)
    with pytest.raises(LinkLostError):
        talk.discard("net", "1-a", "interrupted")


def test_silence_is_told_with_what_to_do():
    with pytest.raises(LinkLostError, match="has said nothing for") as caught:
        session(always()).predict(PREDICT, [np.zeros((1, 1), np.float32)])
    assert caught.value.exit_code == 4
    assert "start again" in caught.value.hint


def test_every_error_is_one_that_the_user_can_read():
    """Lower case, no full stop: the house's form of a message."""
    for kind in ("busy", "space", "crash", "model", "hash", "internal"):
        with pytest.raises(EdgeqError) as caught:
            session(always(wire.Failed(kind=kind, message="what"))).releases()
        assert not caught.value.message.endswith(".")
