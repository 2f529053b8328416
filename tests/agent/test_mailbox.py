"""The message to the Raspberry Pi's firmware, word for word, answered by a function."""

import errno
import struct

import pytest

from edgeq.agent.mailbox import Mailbox

ANSWER = b"  VDD_CORE_A current(7)=1.11625000A\n  VDD_CORE_V volt(15)=0.74944980V\n"


@pytest.fixture
def device(tmp_path):
    path = tmp_path / "vcio"
    path.write_bytes(b"")
    return path


def firmware(code=0x80000000, error=0, seen=None):
    def answer(_descriptor, request, message, mutate):
        assert mutate
        if seen is not None:
            seen.append((request, bytes(message)))
        struct.pack_into("=2I", message, 0, len(message), code)
        struct.pack_into("=I", message, 20, error)
        message[24 : 24 + len(ANSWER) + 1] = ANSWER + b"\0"

    return answer


def test_the_answer_takes_the_place_of_the_question(device):
    seen = []
    mailbox = Mailbox("pmic_read_adc", device, firmware(seen=seen))
    assert [mailbox(), mailbox()] == [ANSWER, ANSWER]
    request, message = seen[1]
    pointer = struct.calcsize("P")
    assert request == {8: 0xC0086400, 4: 0xC0046400}[pointer]
    assert len(message) == (1024 // 4 + 7) * 4
    assert struct.unpack_from("=6I", message) == (len(message), 0, 0x00030080, 1024, 0, 0)
    assert message[24:].rstrip(b"\0") == b"pmic_read_adc"


@pytest.mark.parametrize("spoilt", [{"code": 0x80000001}, {"code": 0}, {"error": 1}])
def test_an_answer_that_is_none_is_empty(device, spoilt):
    assert Mailbox("pmic_read_adc", device, firmware(**spoilt))() == b""


def test_a_firmware_that_cannot_be_asked_is_empty(device, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOTTY, "no such thing")

    assert Mailbox("pmic_read_adc", device, refuse)() == b""
    assert Mailbox("pmic_read_adc", tmp_path / "none", firmware())() == b""
