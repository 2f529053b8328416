import pytest

from edgeq.cli import arguments, conditions
from edgeq.errors import UsageError
from edgeq.trial import Conditions


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["deploy", "--pin-frequency"], ["deploy", "--pin-frequency=max"]),
        (["--pin-frequency", "m.tflite"], ["--pin-frequency=max", "m.tflite"]),
        (["--pin-frequency", "--strict"], ["--pin-frequency=max", "--strict"]),
        (["--pin-frequency", "1500", "x"], ["--pin-frequency", "1500", "x"]),
        (["--pin-frequency", "1500MHz"], ["--pin-frequency", "1500MHz"]),
        (["--pin-frequency", "17k"], ["--pin-frequency", "17k"]),
        (["--pin-frequency", "3.tflite"], ["--pin-frequency=max", "3.tflite"]),
        (["--pin-frequency", "max"], ["--pin-frequency", "max"]),
        (["--pin-frequency=1200", "y"], ["--pin-frequency=1200", "y"]),
        (["deploy", "m.tflite"], ["deploy", "m.tflite"]),
    ],
)
def test_a_frequency_may_be_left_out(given, taken):
    assert arguments.with_values(given) == taken


@pytest.mark.parametrize(
    ("text", "mhz"), [(None, None), ("max", 0.0), ("1500", 1500.0), ("1500 MHz", 1500.0)]
)
def test_a_frequency_is_in_megahertz(text, mhz):
    assert conditions.pin_mhz(text) == mhz


@pytest.mark.parametrize("text", ["fast", "-1", "0", "nan", "inf", "1e9"])
def test_what_is_no_frequency_is_refused(text):
    with pytest.raises(UsageError, match="is not a frequency in MHz"):
        conditions.pin_mhz(text)


def test_wishes_become_conditions():
    assert conditions.of(None, None, None) == Conditions()
    assert conditions.of(50.0, 60.0, "max") == Conditions(
        cool_to_c=50.0, cool_limit_s=60.0, pin_mhz=0.0
    )
    with pytest.raises(UsageError, match="goes with --cool-to"):
        conditions.of(None, 60.0, None)


def test_a_list_of_cpus_that_is_none_names_the_option():
    with pytest.raises(UsageError, match='--cpus: "two" is not a list of CPUs'):
        conditions.cpus("two")
