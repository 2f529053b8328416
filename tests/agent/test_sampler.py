"""Slow sources beside fast files, and sources with a clock of their own."""

import sys
import threading
import time
from itertools import pairwise

import pytest

from edgeq import wire
from edgeq.agent.commands import Command
from edgeq.agent.ports import Sensor, each, number
from edgeq.agent.sampler import Sampler, _by_own_clock


def channel(source, quantity="power_w"):
    return wire.Channel(quantity, source, "rail", total=True)


def of_file(path, source="file"):
    return Sensor(channel(source), (path,), each(lambda raw: number(raw[0])))


class Held:
    """A source that answers when it is let go, and counts how often it was asked."""

    def __init__(self):
        self.asked = 0
        self.cpu_s = 0.25
        self.most_hz = 5.0
        self.free = threading.Event()

    def __call__(self):
        self.asked += 1
        self.free.wait()
        return b"7"


def wait_until(true):
    while not true():
        time.sleep(0.005)


def test_a_slow_source_holds_up_no_file(tmp_path):
    path = tmp_path / "power"
    path.write_text("5\n")
    source = Held()
    slow = Sensor(channel("slow"), (), each(lambda raw: number(raw[0])), source)
    sampler = Sampler([slow, of_file(path)], 200.0)
    sampler.start()
    wait_until(lambda: len(sampler._turns[0].taken) > 20)
    assert source.asked == 1
    source.free.set()
    rows = sampler.stop()
    names = [sensor.channel.source for sensor in sampler.sensors]
    assert names == ["file", "slow"]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert {row[1:] for row in rows} == {(5.0, None), (None, 7.0)}
    assert sum(row[2] == 7.0 for row in rows) == source.asked
    assert sampler.cpu_s > 0.25


def test_sensors_of_one_slow_source_share_its_readings():
    source = Held()
    source.free.set()
    sensors = [
        Sensor(channel(str(times)), (), each(lambda raw, k=times: k * number(raw[0])), source)
        for times in (1, 2)
    ]
    sampler = Sampler(sensors, 100.0)
    sampler.start()
    wait_until(lambda: source.asked > 1)
    rows = sampler.stop()
    assert {row[1:] for row in rows} == {(7.0, 14.0)}
    assert len(rows) == source.asked


def test_a_slow_source_is_asked_at_its_own_rate():
    source = Held()
    source.free.set()
    sampler = Sampler([Sensor(channel("s"), (), each(lambda _: 1.0), source)], 1000.0)
    sampler.start()
    wait_until(lambda: source.asked > 2)
    rows = sampler.stop()
    gaps_s = [(b[0] - a[0]) / 1e9 for a, b in pairwise(rows[:-1])]
    assert min(gaps_s) > 0.15


def test_a_file_that_many_sensors_want_is_read_once_a_turn(tmp_path):
    volts, amperes = tmp_path / "v", tmp_path / "i"
    volts.write_text("5")
    amperes.write_text("2")
    product = Sensor(channel("p"), (volts, amperes), each(lambda r: number(r[0]) * number(r[1])))
    sampler = Sampler([product, of_file(volts, "v"), of_file(amperes, "i")], 100.0)
    assert len(sampler._files._descriptors) == 2
    sampler.start()
    assert sampler.stop()[0][1:] == (10.0, 5.0, 2.0)


def test_a_source_with_a_clock_is_told_at_its_own_moments_each_once(tmp_path):
    path = tmp_path / "energy"
    path.write_text("100 1")
    moment = lambda raw: float(raw[0].split()[0])  # noqa: E731
    energy = Sensor(
        channel("e", "energy_j"), (path,), each(lambda raw: float(raw[0].split()[1])), clock=moment
    )
    sampler = Sampler([energy, of_file(tmp_path / "energy", "again")], 200.0)
    sampler.start()
    wait_until(lambda: len(sampler._turns[0].taken) > 3)
    path.write_text("101 2")
    wait_until(lambda: sampler._turns[0].taken[-1][1] == (b"101 2",))
    rows = sampler.stop()
    told = [(row[0], row[1]) for row in rows if row[1] is not None]
    assert [value for _, value in told] == [1.0, 2.0]
    assert told[1][0] - told[0][0] == pytest.approx(1e9)
    assert sum(row[2] is not None for row in rows) == len(sampler._turns[0].taken)


def test_the_clocks_zero_is_that_of_the_reading_that_was_read_soonest():
    times_ns = [5.0e9, 6.0e9, 7.0e9, 7.5e9]
    found = _by_own_clock(times_ns, [1.0, 1.9, 3.0, 3.0], [10.0, 11.0, 12.0, 12.0])
    assert found == [(5.0e9, 10.0), (5.9e9, 11.0), (7.0e9, 12.0)]
    assert _by_own_clock(times_ns, [None] * 4, [1.0] * 4) == []


def test_a_programs_output_is_read_with_what_it_cost():
    command = Command([sys.executable, "-c", "print(sum(range(10**6)))"])
    assert command() == b"499999500000\n"
    assert command.cpu_s > 0


def test_a_program_that_fails_is_gone_or_says_too_much_has_no_output():
    assert Command(["/nowhere/vcgencmd"])() == b""
    assert Command([sys.executable, "-c", "print(1); raise SystemExit(3)"])() == b""
    assert Command([sys.executable, "-c", "print('x' * 100000)"])() == b""
    assert Command(["sleep", "60"])() == b""
