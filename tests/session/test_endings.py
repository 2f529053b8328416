"""What the user is told when an agent is gone."""

import pytest

from edgeq import wire
from edgeq.endings import explain, start_up_hint


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (-9, 1, "was killed"),
        (137, 1, "was killed"),
        (-1, 1, "was killed"),
        (143, 4, "told to end"),
        (129, 4, "told to end"),
        (-15, 4, "told to end"),
        (wire.SILENT_STATUS, 4, "not heard"),
        (1, 1, "ended with status 1: Traceback"),
        (127, 1, "ended with status 127"),
    ],
)
def test_an_end_is_told_with_its_mend(status, code, words):
    error = explain("bench", status, "Traceback")
    assert error.exit_code == code
    assert words in error.message
    assert error.message.count("bench") == 1
    assert "start again" in error.hint


def test_a_command_that_said_nothing_points_to_the_start_up_file():
    assert "~/.bashrc" in start_up_hint(0)
    assert "ssh" in start_up_hint(255)
