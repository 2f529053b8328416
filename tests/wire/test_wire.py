import contextlib
import io
import json
import subprocess
import sys
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import wire

KINDS = list(typing.get_args(wire.Message))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def values(hint):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if getattr(hint, "__module__", "") == wire.__name__:
        return messages(hint)
    if origin is typing.Union:
        return st.none() | values(args[0])
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(), values(args[1]), max_size=3)
    return {int: st.integers(), float: FLOATS, str: st.text(), bool: st.booleans()}[hint]


def messages(kind):
    """Any message of a kind; what it promises as a payload is short enough to make."""
    hints = typing.get_type_hints(kind)
    fields = {name: values(hint) for name, hint in hints.items()}
    if "payload_bytes" in fields:
        fields["payload_bytes"] = st.integers(0, 300)
    return st.builds(kind, **fields)


def stream(message):
    return wire.encode(message) + bytes(getattr(message, "payload_bytes", 0))


def pieces(data, cuts):
    source = io.BytesIO(data)
    for cut in cuts:
        yield source.read(cut)
    yield source.read()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind):
    @given(messages(kind))
    def check(message):
        line = wire.encode(message)
        assert line.startswith(wire.PREFIX)
        assert line.count(b"\n") == 1
        assert wire.decode(line) == message

    check()


@given(
    st.lists(st.sampled_from(KINDS).flatmap(messages), min_size=1, max_size=5),
    st.lists(st.integers(1, 40), max_size=60),
)
def test_any_chunks_give_the_same_messages_and_payloads(sent, cuts):
    decoder = wire.Decoder()
    data = b"".join(map(stream, sent))
    received, payload = [], 0
    for piece in pieces(data, cuts):
        for event in decoder.feed(piece):
            if isinstance(event, bytes):
                payload += len(event)
            else:
                received.append(event)
    assert received == sent
    assert payload == sum(getattr(message, "payload_bytes", 0) for message in sent)


@given(st.lists(st.binary(max_size=50).filter(lambda line: b"\n" not in line), max_size=5))
def test_noise_before_the_first_message_is_skipped(lines):
    noise = b"".join(line + b"\n" for line in lines if wire.PREFIX not in line)
    decoder = wire.Decoder()
    assert list(decoder.feed(noise + wire.encode(wire.Done()))) == [wire.Done()]
    assert decoder.skipped == noise[-4096:]


def test_noise_may_lack_the_end_of_its_line():
    decoder = wire.Decoder()
    assert list(decoder.feed(b"welcome> " + wire.encode(wire.Done()))) == [wire.Done()]
    assert decoder.skipped == b"welcome> "


def test_noise_after_the_first_message_is_an_error():
    decoder = wire.Decoder()
    with pytest.raises(wire.WireError):
        list(decoder.feed(wire.encode(wire.Done()) + b"Broadcast message\n"))


@given(st.binary(max_size=200))
def test_a_hostile_line_is_an_error_and_nothing_else(line):
    with contextlib.suppress(wire.WireError):
        wire.decode(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(KINDS), st.data())
def test_a_field_of_another_type_is_an_error(kind, data):
    names = list(typing.get_type_hints(kind))
    fields = {name: data.draw(JSON) for name in names}
    line = json.dumps({"type": kind.__name__, **fields}).encode()
    try:
        message = wire.decode(line)
    except wire.WireError:
        return
    assert isinstance(message, kind)


def test_an_unknown_field_is_dropped_and_a_missing_one_has_its_default():
    line = b'{"type": "Runtime"}'
    with pytest.raises(wire.WireError, match="not a message"):
        wire.decode(line)  # a part of a message is no message
    line = b'{"type": "Progress", "phase": "run", "colour": "red"}'
    assert wire.decode(line) == wire.Progress("run")
    with pytest.raises(wire.WireError, match="phase"):
        wire.decode(b'{"type": "Progress"}')


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "Put", "path": "x", "size_bytes": true, "sha256": ""}',
        b'{"type": "Put", "path": "x", "size_bytes": 1.5, "sha256": ""}',
        b'{"type": "Put", "path": null, "size_bytes": 1, "sha256": ""}',
        b'{"type": "Exists", "paths": "abc"}',
        b'{"type": "Exists", "paths": [1]}',
        b'{"type": "Probe", "runtime": "litert"}',
        b'{"type": null}',
        b'{"type": "typing"}',
        b"[" * 5000,
    ],
)
def test_a_wrong_type_is_an_error(line):
    with pytest.raises(wire.WireError):
        wire.decode(line)


def test_a_line_without_an_end_is_given_up():
    decoder = wire.Decoder()
    list(decoder.feed(bytes(wire.MAX_LINE_BYTES)))
    with pytest.raises(wire.WireError, match="over"):
        list(decoder.feed(b"x"))


def test_a_peer_that_knows_nothing_of_execution_providers_is_understood():
    line = b'{"type": "Probe", "runtime": {"kind": "litert", "paths": [], "threads": 1}}\n'
    assert wire.decode(line) == wire.Probe(wire.Runtime("litert"))
    asked = wire.Runtime("onnxruntime", providers=("CUDA", "CPU"), arena=False)
    assert wire.decode(wire.encode(wire.Probe(asked))) == wire.Probe(asked)


def test_many_threads_may_use_a_message_first():
    code = (
        "import threading\nfrom edgeq import wire\n"
        "gate = threading.Barrier(16)\nmade = []\n"
        "def make():\n    gate.wait()\n    made.append(wire.Progress('run', 1, total=2))\n"
        "threads = [threading.Thread(target=make) for _ in range(16)]\n"
        "[one.start() for one in threads]\n[one.join() for one in threads]\n"
        "assert made == [wire.Progress('run', 1, 2)] * 16\nassert len(set(made)) == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_message_cannot_be_changed():
    message = wire.Progress("run")
    with pytest.raises(AttributeError):
        message.phase = "idle"
    with pytest.raises(TypeError, match="phase"):
        wire.Progress()
