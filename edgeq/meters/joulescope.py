"""``--meter joulescope[:SERIAL]``: a Joulescope by its makers' own driver.

The instrument integrates 1 or 2 million samples a second by itself; its means of 10 ms are taken.
"""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from edgeq.errors import MeterError
from edgeq.ports import OnProgress, Readings

_MEANS_HZ = 100
_INSTALL = "pip install joulescope"
# From the last of the run to the arrival of its mean.
_LAST_S = 0.2


class Driver(Protocol):
    """What is used of ``pyjoulescope_driver.Driver``; topics are those of its documentation."""

    def device_paths(self) -> list[str]: ...
    def open(self, device_prefix: str) -> object: ...
    def publish(self, topic: str, value: object) -> object: ...
    def subscribe(self, topic: str, flags: str, fn: object) -> object: ...
    def finalize(self) -> object: ...


def make(argument: str) -> "Joulescope":
    """The instrument with the serial number ``argument``; the only one where that is empty.

    Raises:
        MeterError: the driver is not installed.
    """
    try:
        module = importlib.import_module("pyjoulescope_driver")
    except ImportError as error:
        raise MeterError(
            "--meter joulescope needs the makers' package, which is not installed here",
            hint=f"{_INSTALL}; on Linux also its udev rules (joulescope.readthedocs.io)",
        ) from error
    return Joulescope(module.Driver, argument)


class Joulescope:
    """``ports.PowerMeter``."""

    def __init__(self, make_driver: Callable[[], Driver], serial: str) -> None:
        self._make_driver = make_driver
        self._serial = serial
        self._driver: Driver | None = None
        self._rows: list[tuple[float, float, float]] = []
        self.source = f"joulescope {serial}".strip()

    def start(self) -> None:
        """See ``ports.PowerMeter``."""
        try:
            self._driver = self._make_driver()
            self._begin(self._driver)
        except MeterError:
            self.close()
            raise
        except (RuntimeError, OSError, ValueError) as error:
            self.close()
            raise MeterError(f"the Joulescope cannot be read: {error}") from error

    def stop(self, start_s: float, end_s: float, on_progress: OnProgress) -> Readings:
        """See ``ports.PowerMeter``."""
        on_progress("wait for the meter", 0, 0)
        time.sleep(max(0.0, end_s + _LAST_S - time.time()))
        self.close()
        rows = np.array(self._rows, float).reshape(-1, 3)
        if not len(rows):
            raise MeterError(f"{self.source} gave no readings")
        arrived, ended = rows[:, 0], rows[:, 1]
        # A mean arrives after its end, now and then at once: the least delay is the clocks'.
        times_s = ended - 0.5 / _MEANS_HZ + float(np.min(arrived - ended))
        near = (times_s >= start_s - 1.0) & (times_s <= end_s + 1.0)
        return Readings(source=self.source, times_s=times_s[near], watts=rows[near, 2])

    def close(self) -> None:
        """Let go of the instrument."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.finalize()

    def _begin(self, driver: Driver) -> None:
        paths = [p for p in driver.device_paths() if "&" not in p and p.endswith(self._serial)]
        if len(paths) != 1:
            found = f"{len(paths)} are connected ({', '.join(paths)})" if paths else "none is there"
            raise MeterError(
                f"--meter joulescope takes one instrument, and {found}",
                hint="connect it, or name its serial number: --meter joulescope:SERIAL",
            )
        path = paths[0]
        self.source = f"joulescope {path.partition('/')[2]}"
        driver.open(path)
        older = "js110" in path
        driver.publish(f"{path}/s/i/range/{'select' if older else 'mode'}", "auto")
        if older:
            for signal in "ivp":
                driver.publish(f"{path}/s/{signal}/ctrl", "on")
        samples_hz = 2_000_000 if older else 1_000_000
        driver.publish(f"{path}/s/stats/scnt", samples_hz // _MEANS_HZ)
        driver.publish(f"{path}/s/stats/ctrl", "on" if older else 1)
        driver.subscribe(f"{path}/s/stats/value", "pub", self._take)

    def _take(self, _topic: str, value: Mapping[str, Any]) -> None:
        """Called from the driver's thread, once a mean."""
        ended_s = float(value["time"]["range"]["value"][1])
        self._rows.append((time.time(), ended_s, float(value["signals"]["power"]["avg"]["value"])))
