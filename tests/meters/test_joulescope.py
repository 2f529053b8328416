"""The adapter against a driver that answers as the makers' does."""

import sys
import time

import pytest

from edgeq.errors import MeterError
from edgeq.meters import joulescope


def silent(*_):
    pass


class Driver:
    """Knows the topics that a JS220 or JS110 takes; ``tell`` gives a mean as the real one does."""

    def __init__(self, paths=("u/js220/001234",)):
        self.paths = list(paths)
        self.topics = {}
        self.finalized = False
        self.take = None

    def device_paths(self):
        return self.paths

    def open(self, device_prefix):
        self.topics["open"] = device_prefix

    def publish(self, topic, value):
        self.topics[topic] = value

    def subscribe(self, topic, flags, fn):
        assert (topic.rpartition("/s/")[2], flags) == ("stats/value", "pub")
        self.take = fn

    def finalize(self):
        self.finalized = True

    def tell(self, start, end, watts):
        value = {
            "time": {"range": {"value": [start, end], "units": "s"}},
            "signals": {"power": {"avg": {"value": watts, "units": "W"}}},
        }
        self.take("u/js220/001234/s/stats/value", value)


def meter(driver, serial=""):
    return joulescope.Joulescope(lambda: driver, serial)


def test_means_of_10_ms_are_taken_at_the_middle_of_their_time():
    driver = Driver()
    found = meter(driver)
    found.start()
    assert driver.topics["u/js220/001234/s/stats/scnt"] == 10_000
    begun = time.time()
    for number in range(5):
        driver.tell(100 + number / 100, 100 + (number + 1) / 100, 2.0 + number)
    readings = found.stop(begun - 0.5, begun - 0.25, silent)
    assert driver.finalized
    assert readings.source == "joulescope js220/001234"
    assert list(readings.watts) == [2, 3, 4, 5, 6]
    assert readings.times_s[4] - readings.times_s[0] == pytest.approx(0.04)
    # None is later than its arrival, and the soonest sets the clocks' difference.
    assert readings.times_s[4] + 0.005 <= time.time()


def test_a_js110_computes_its_means_here_from_two_million_samples():
    driver = Driver(["u/js110/000555"])
    meter(driver).start()
    assert driver.topics["u/js110/000555/s/stats/scnt"] == 20_000
    assert driver.topics["u/js110/000555/s/p/ctrl"] == "on"


def test_no_instrument_and_two_of_them_are_errors_with_the_mend():
    for paths, words in (([], "none is there"), (["u/js220/1", "u/js220/2"], "2 are connected")):
        driver = Driver(paths)
        with pytest.raises(MeterError, match=words) as caught:
            meter(driver).start()
        assert "--meter joulescope:SERIAL" in caught.value.hint
        assert driver.finalized


def test_a_serial_number_chooses_and_a_bootloader_is_no_instrument():
    driver = Driver(["u/js220/001234", "u/js220/005678", "u/&js220/005678"])
    meter(driver, "005678").start()
    assert driver.topics["open"] == "u/js220/005678"


def test_an_instrument_that_says_nothing_has_no_readings():
    found = meter(Driver())
    found.start()
    with pytest.raises(MeterError, match="gave no readings"):
        found.stop(0.0, 1.0, silent)


def test_without_the_makers_package_the_line_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    with pytest.raises(MeterError, match="which is not installed here") as caught:
        joulescope.make("")
    assert caught.value.hint.startswith("pip install joulescope")
