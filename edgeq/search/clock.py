"""The time that a search has."""

import time
from collections.abc import Callable
from typing import TypeVar

from edgeq import worker
from edgeq.errors import WorkerError

ResultT = TypeVar("ResultT")


class TimeIsUpError(Exception):
    """The search has no time left; it never leaves the search."""


class Clock:
    """Runs from its making."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Not below 0."""
        return max(0.0, self._end_s - time.monotonic())

    def check(self) -> None:
        """Go on.

        Raises:
            TimeIsUpError: there is no time left.
        """
        if self.left_s <= 0:
            raise TimeIsUpError

    def within(self, work: Callable[[worker.Limits], ResultT]) -> ResultT:
        """Work in a child that has no longer than the search.

        Raises:
            TimeIsUpError: it took longer, or there was no time at all.
        """
        self.check()
        try:
            return work(worker.Limits(timeout_s=self.left_s))
        except WorkerError:
            self.check()
            raise
