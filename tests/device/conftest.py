"""Machines of the lab for the tests; each is ended by its own process id, whatever happens."""

import itertools
import os
from pathlib import Path

import pytest

from tests.lab import lab

# An emulated board on two busy cores takes its time; the limit only ends what hangs.
_LIMIT_S = 1200
_NUMBERS = itertools.count(1)


# What it proves is proved by a shorter one in another way: EDGEQ_LAB_FULL=1 runs these too.
_LONG = pytest.mark.skip(reason="a long one: EDGEQ_LAB_FULL=1 runs it")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs with EDGEQ_LAB_FULL=1 only")


def pytest_collection_modifyitems(items):
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMIT_S))
        if item.get_closest_marker("long") and not os.environ.get("EDGEQ_LAB_FULL"):
            item.add_marker(_LONG)


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
