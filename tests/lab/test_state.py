"""The lab's own arithmetic and care, without a machine."""

import random
import threading

import pytest

from tests.lab import boards, cache, cli, linux
from tests.lab.errors import LabError
from tests.lab.guest import state

RAIL = {"name": "r", "chip": "ina3221", "address": 0x40, "channel": 2, "shunt_uohm": 5000}


@pytest.mark.parametrize("volts", [5.0, 12.0])
def test_an_ina3221_comes_within_a_tenth_of_a_percent_of_the_power(volts):
    numbers = random.Random(3)
    for _ in range(300):
        watts = numbers.uniform(0.2 * volts, 4 * volts)
        words, shown = state.registers(RAIL | {"volts": volts}, watts)
        assert shown == pytest.approx(watts, rel=0.003)
        assert [word[:2] for word in words] == [(0x40, 4), (0x40, 3), (0x40, 0x0F)]
        # What the kernel's ina3221.c makes of the words: 8 mV and 40 uV a step, bits 15-3.
        millivolts = (words[0][2] >> 3) * 8
        milliamperes = round((words[1][2] >> 3) * 40 * 1000 / 5000)
        assert millivolts * milliamperes / 1e6 == pytest.approx(shown)


def test_an_ina3221_shows_no_power_as_none():
    assert state.registers(RAIL | {"volts": 5.0}, 0.0)[1] == 0.0


@pytest.mark.parametrize(("chip", "step_w"), [("ina226", 0.00625), ("ina219", 0.02)])
def test_an_ina2xx_is_right_to_half_a_step(chip, step_w):
    rail = {"name": "r", "chip": chip, "address": 0x41, "shunt_uohm": 10000, "volts": 5.0}
    for watts in (0.5, 1.23456, 7.9):
        assert abs(state.registers(rail, watts)[1] - watts) <= step_w / 2 + 1e-9


def test_every_board_of_the_folder_is_whole():
    for name in boards.names():
        board = boards.board(name)
        assert board.name == name
        assert 1 <= board.cluster <= board.cores
        assert board.steps_mhz == sorted(board.steps_mhz)
        assert board.temperature_c < board.critical_c


def test_words_of_the_command_line_name_what_a_board_has():
    board = boards.board("jetson-orin-nano")
    words = ["VDD_IN=6.5", "tj-thermal=80", "cap_mhz=800"]
    assert cli.changes(board, words) == {
        "rails": {"VDD_IN": 6.5},
        "temperature_c": {"tj-thermal": 80.0},
        "cap_mhz": 800.0,
    }
    with pytest.raises(LabError, match="has no 'throttled'") as caught:
        cli.changes(board, ["throttled=0x1"])
    assert "VDD_IN" in caught.value.hint


def test_a_folder_is_made_once_however_many_ask(tmp_path):
    made = []

    def make(draft):
        made.append(draft)
        (draft / "file").write_text("whole")

    threads = [
        threading.Thread(target=cache.made, args=(tmp_path / "thing", make)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (tmp_path / "thing/file").read_text() == "whole"


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def make(draft):
        (draft / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.made(tmp_path / "thing", make)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_leftovers_of_a_killed_build_are_removed(tmp_path):
    (tmp_path / "thing.part-dead").mkdir(parents=True)
    cache.made(tmp_path / "thing", lambda draft: (draft / "file").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["locks", "thing"]


def test_a_key_changes_with_any_file_and_its_name(tmp_path):
    (tmp_path / "a").write_text("1")
    first = cache.content_key("x", tmp_path)
    assert cache.content_key("x", tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert cache.content_key("x", tmp_path) != first


def test_the_cpio_archive_is_what_the_kernel_reads():
    packed = linux.cpio({"bin/x": (b"hello", 0o755)})
    assert packed[:6] == b"070701"
    at = packed.index(b"bin/x\0")
    header = packed[at - 110 : at]
    assert int(header[14:22], 16) == 0o100755
    assert int(header[54:62], 16) == 5
    assert b"hello" in packed
    assert len(packed) % 4 == 0
    assert b"TRAILER!!!" in packed


@pytest.mark.parametrize(
    "word", ["temperature_c=1e9", "temperature_c=nan", "cap_mhz=-1", "throttled=zz", "throttled=-1"]
)
def test_what_no_sensor_can_show_is_refused_before_it_is_set(word):
    with pytest.raises(LabError, match=word.partition("=")[0]):
        cli.changes(boards.board("pi4"), [word])
