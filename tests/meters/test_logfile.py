"""A meter's file that is still written, in another time zone, or of another time."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgeq import logfile
from edgeq.core.meterlog import read_csv
from edgeq.errors import MeterError
from edgeq.meters import csv, spl

START = 1_795_000_000.0


def silent(*_):
    pass


def rows(start, end, step=0.1, watts=5.0):
    return "".join(f"{t:.3f},{watts}\n" for t in np.arange(start, end, step))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time_s,power_w\n" + rows(START - 20, START + 40))
    return path


def test_the_time_of_the_run_and_a_little_more_is_taken(log):
    found = csv.make(str(log)).stop(START, START + 10, silent)
    assert found.source == "csv log.csv"
    assert found.times_s[0] == pytest.approx(START - 5, abs=0.11)
    assert found.times_s[-1] == pytest.approx(START + 15, abs=0.11)
    assert set(found.watts) == {5.0}


def test_a_file_that_is_not_there_is_told_before_anything_is_done(tmp_path):
    with pytest.raises(MeterError, match=r"the meter's log .*none\.csv is not there"):
        csv.make(str(tmp_path / "none.csv"))


def test_a_file_of_another_form_is_told_before_the_run(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(MeterError, match="is no such log: no header with time_s"):
        csv.make(str(path)).start()


def test_a_file_that_has_not_begun_may_begin_later(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("")
    csv.make(str(path)).start()


def test_it_waits_for_a_log_that_is_still_written(tmp_path, monkeypatch):
    monkeypatch.setattr(logfile, "_LOOK_S", 0.01)
    path = tmp_path / "log.csv"
    path.write_text("time_s,power_w\n" + rows(START, START + 5))
    heard = threading.Event()
    told = []

    def hear(phase, done, total):
        told.append((phase, done, total))
        heard.set()

    def write():
        heard.wait()
        with path.open("a") as file:
            file.write(rows(START + 5, START + 11) + "1795000011.1,5")  # a row begun

    writer = threading.Thread(target=write)
    writer.start()
    found = csv.make(str(path)).stop(START, START + 10, hear)
    writer.join()
    assert found.times_s[-1] >= START + 10
    assert told[0] == ("wait for the meter's log", 4, 10)


def test_it_waits_no_longer_than_the_log_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(logfile, "STILL_S", 0.05)
    monkeypatch.setattr(logfile, "_LOOK_S", 0.01)
    path = tmp_path / "log.csv"
    path.write_text("time_s,power_w\n" + rows(START, START + 5))
    found = csv.make(str(path)).stop(START, START + 10, silent)
    assert found.times_s[-1] == pytest.approx(START + 4.9)


@pytest.mark.parametrize(("shift", "words"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_log_of_another_time_is_refused_with_both_times(tmp_path, monkeypatch, shift, words):
    monkeypatch.setattr(logfile, "STILL_S", 0.0)
    path = tmp_path / "log.csv"
    path.write_text("time_s,power_w\n" + rows(START + shift, START + shift + 10))
    with pytest.raises(MeterError, match=f"{words} this machine's, or it did not log then"):
        csv.make(str(path)).stop(START, START + 10, silent)


def test_times_without_a_zone_are_those_of_the_zone_that_fits_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for zone, words in ((None, "this machine's"), (UTC, "UTC")):
            path = tmp_path / f"{words[:3]}.txt"
            stamps = [datetime.fromtimestamp(START + i, zone) for i in range(-5, 20)]
            lines = [f"Time,{s:%m-%d-%Y %H:%M:%S}.000,Watts,12.5,Mark,run\n" for s in stamps]
            path.write_text("".join(lines))
            found = spl.make(str(path)).stop(START, START + 10, silent)
            assert found.times_s[0] == pytest.approx(START - 5)
            assert found.source == f"spl {path.name}, times taken as {words}"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_fast_log_is_averaged_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(logfile, "_MOST", 100)
    path = tmp_path / "log.csv"
    times = START + np.arange(1000) / 100
    watts = 5 + np.sin(np.arange(1000))
    path.write_text(
        "time_s,power_w\n" + "".join(f"{t:.4f},{w}\n" for t, w in zip(times, watts, strict=True))
    )
    meter = logfile.LogFile(Path(path), "csv", read_csv)
    found = meter.stop(START, START + 9.9, silent)
    assert found.source == "csv log.csv, means of 10 readings"
    assert len(found.times_s) == 100
    assert found.watts.mean() == pytest.approx(watts.mean())
    assert found.times_s[0] == pytest.approx(START + 0.045)


def test_a_log_that_vanishes_is_an_error_in_words(log):
    meter = csv.make(str(log))
    log.unlink()
    with pytest.raises(MeterError, match="cannot read"):
        meter.stop(START, START + 1, silent)
