import io
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.cli import render, wording
from edgeq.core import report, summary
from edgeq.core.profile import Budgets
from edgeq.errors import HostError
from tests.fakes import measured as device
from tests.fakes.outcome import outcome

ROOT = Path(__file__).parents[2]


def printed(**changes) -> str:
    out = io.StringIO()
    render.report(summary.summarise(outcome(**changes)), out)
    return out.getvalue()


def in_terminal(columns: int, **environment: str) -> str:
    """What the report looks like in a terminal of so many columns."""
    master, slave = pty.openpty()
    script = (
        "from edgeq.cli import render; from edgeq.core import summary;"
        "from tests.fakes.outcome import outcome; render.report(summary.summarise(outcome()))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if k != "NO_COLOR"},
            "TERM": "xterm-256color",
            "COLUMNS": str(columns),
            **environment,
        },
        stdout=slave,
        stderr=subprocess.PIPE,
    )
    os.close(slave)
    data = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux says EIO when the last writer has gone
            break
        if not piece:
            break
        data += piece
    os.close(master)
    assert process.wait(30) == 0, process.stderr.read()
    process.stderr.close()
    return data.decode().replace("\r\n", "\n")


def test_a_piped_report_is_plain_text_one_line_a_figure():
    text = printed()
    assert "\x1b" not in text
    assert text.isascii() or set(text) - set(map(chr, range(128))) <= {"°"}
    lines = text.splitlines()
    assert "digits.h5 on bench (pi4)  run 20261121-091500-3f9a" in lines
    assert any(line.startswith("latency    p50 5.00 ms (95 %:") for line in lines)
    assert any("11.40 times smaller" in line for line in lines)
    assert "power      n/a" in lines
    assert "  power: no power meter found (hwmon INA, battery, RAPL)" in lines
    assert "verdict    VALID" in lines
    assert not any(line != line.rstrip() for line in lines)


def test_failed_gates_and_bad_verdicts_stand_out():
    raw = device.samples(
        [device.steady(10)], throttle_before=(), throttle_after=("occurred:under-voltage",)
    )
    text = printed(raw=raw, budgets=Budgets(latency_p90_ms=1))
    assert "passed  accuracy_drop 0.0028, at most 0.01" in text
    assert "FAILED  latency_p90_ms 5.0" in text
    assert "verdict    INVALID" in text
    assert "           throttled: under-voltage, so its power supply or cable is too weak" in text


def test_fields_with_the_same_reason_share_a_line():
    assert "thermal.frequency_max_mhz, thermal.governor, thermal.pinned: no cpufreq" in printed()


def test_hostile_names_reach_the_terminal_as_text():
    found = summary.summarise(outcome())
    evil = "[bold]\x1b[2J\nx"
    model = found.model.model_copy(update={"name": evil})
    out = io.StringIO()
    render.report(found.model_copy(update={"model": model, "warnings": (evil,)}), out)
    assert "\x1b" not in out.getvalue()
    assert "[bold]\\x1b[2J\\nx on bench" in out.getvalue()


def test_a_terminal_of_80_columns_is_not_overrun_and_has_colour():
    text = in_terminal(80)
    assert "\x1b[1;32mVALID" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 80
    assert "\n           " in plain


def test_no_color_is_plain_but_still_fits():
    text = in_terminal(80, NO_COLOR="1")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0.0, "0 ms"),
        (0.000123456, "0.000123 ms"),
        (1.0, "1.00 ms"),
        (12.3456, "12.3 ms"),
        (123.456, "123 ms"),
        (123456.0, "123456 ms"),
        (-2.5, "-2.50 ms"),
    ],
)
def test_numbers_have_three_digits_and_their_unit(value, text):
    assert wording.number(value, "ms") == text


def test_a_list_in_a_pipe_has_aligned_columns(capsys):
    render.table(("name", "what"), [("a", "x"), ("longer", None)], "none")
    assert capsys.readouterr().out.splitlines() == ["name    what", "a       x", "longer  n/a"]


def test_an_empty_list_says_what_to_do(capsys):
    render.table(("name",), [], "add one: edgeq devices add")
    assert capsys.readouterr().out == "add one: edgeq devices add\n"


@dataclass(frozen=True)
class Done:
    report: report.Report


def test_json_to_a_file_comes_beside_the_table(tmp_path, capsys):
    found = summary.summarise(outcome())
    render.result(Done(found), str(tmp_path / "r.json"))
    assert report.load((tmp_path / "r.json").read_text(), "r") == found
    assert "verdict    VALID" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_json_to_stdout_is_json_alone(capsys):
    render.result(Done(summary.summarise(outcome())), "-")
    assert json.loads(capsys.readouterr().out)["schema"] == "edgeq.report/1"


def test_json_to_a_place_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(HostError, match="cannot write"):
        render.result(Done(summary.summarise(outcome())), str(tmp_path / "no/r.json"))
