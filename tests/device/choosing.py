"""Which parameters a run without EDGEQ_LAB_FULL=1 has."""

import pytest


def some(values, *short):
    """All values; those that are not named are long ones."""
    return [one if one in short else pytest.param(one, marks=pytest.mark.long) for one in values]
