"""Machines of the lab for the tests; each is ended by its own process id, whatever happens."""

import itertools
import os
from pathlib import Path

import pytest

from tests.lab import lab

# An emulated board on two busy cores takes its time; the limit only ends what hangs.
_LIMIT_S = 1200
_NUMBERS = itertools.count(1)


def pytest_collection_modifyitems(items):
    for item in items:
        own = item.path.is_relative_to(Path(__file__).parent)
        if own and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMIT_S))


class Machines:
    """Starts machines under names of their own, and ends them."""

    def __init__(self):
        self._started = []

    def up(self, board, **options):
        machine = lab.up(f"t{os.getpid()}-{next(_NUMBERS)}", board, **options)
        self._started.append(machine)
        return machine

    def end(self):
        for machine in self._started:
            machine.down()


@pytest.fixture
def machines():
    started = Machines()
    yield started
    started.end()


@pytest.fixture(scope="module")
def module_machines():
    """The same, for machines that the tests of one file share."""
    started = Machines()
    yield started
    started.end()
