"""Waiting until a device has cooled down, for so long in all."""

from __future__ import annotations

import time
from pathlib import Path

from edgeq import wire
from edgeq.agent import thermal
from edgeq.agent.talk import Talk

PHASE = "cool down"
_LOOK_EVERY_S = 1.0


class Cooling:
    """One run's; ``target_c`` None: it never waits."""

    def __init__(self, target_c: float | None, limit_s: float, talk: Talk, root: Path) -> None:
        self.reason = ""
        self._target_c = target_c
        self._limit_s = limit_s
        self._talk = talk
        self._root = root
        self._waited_s = 0.0
        self._starts: list[float | None] = []

    def before_run(self) -> None:
        """Before anything is touched or looked at; see ``before_process``."""
        self._wait()

    def before_process(self) -> None:
        """Wait until the device is cool, or the time is up, or it has no sensor.

        Raises:
            HostGoneError: the host hung up meanwhile.
        """
        self._starts.append(self._wait())

    def _wait(self) -> float | None:
        """How warm it is at the end."""
        if self._target_c is None:
            return None
        began_s = time.monotonic()
        left_s = self._limit_s - self._waited_s
        while True:
            heat = thermal.now(self._root)
            self.reason = self.reason or heat.reason
            spent_s = time.monotonic() - began_s
            if heat.celsius is None or heat.celsius <= self._target_c or spent_s >= left_s:
                break
            # Tenths of degrees: now, and to reach.
            tenths = int(10 * heat.celsius), int(10 * self._target_c)
            self._talk.send(wire.Progress(PHASE, *tenths))
            self._talk.wait(min(_LOOK_EVERY_S, left_s - spent_s))
        self._waited_s += spent_s
        return heat.celsius

    def result(self) -> wire.Cooled | None:
        """None where nobody asked for it."""
        if self._target_c is None:
            return None
        known = [start for start in self._starts if start is not None]
        complete = bool(known) and len(known) == len(self._starts)
        worst_c = max(known) if complete else None
        reached = worst_c is not None and worst_c <= self._target_c
        return wire.Cooled(self._target_c, reached, self._waited_s, worst_c)
