"""Seconds of each step, by name."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Counts from when it is made; steps may run side by side, each in a thread of its own."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block; the same name again adds to it."""
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    @property
    def total(self) -> float:
        return time.monotonic() - self._start
