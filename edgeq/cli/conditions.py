"""What is asked of the device for the time of the measurement: its CPUs and its clock."""

from edgeq.cli.arguments import HIGHEST, PIN, number
from edgeq.core import cpulist
from edgeq.errors import UsageError
from edgeq.trial import UNCHANGED, Conditions

_MOST_MHZ = 20_000.0


def cpus(text: str) -> tuple[int, ...]:
    """``--cpus 2-3``.

    Raises:
        UsageError: it is no list of CPUs.
    """
    try:
        return cpulist.parse(text)
    except ValueError as error:
        raise UsageError(f"--cpus: {error}", hint="--cpus 2-3, or --cpus 0,2") from error


def of(cool_to_c: float | None, cool_limit_s: float | None, pin: str | None) -> Conditions:
    """``--cool-to``, ``--cool-limit`` and ``--pin-frequency``.

    Raises:
        UsageError: a frequency that is none, a limit for nothing.
    """
    if cool_limit_s is not None and cool_to_c is None:
        raise UsageError("--cool-limit goes with --cool-to", hint="--cool-to 50 --cool-limit 600")
    limit_s = UNCHANGED.cool_limit_s if cool_limit_s is None else cool_limit_s
    return Conditions(cool_to_c=cool_to_c, cool_limit_s=limit_s, pin_mhz=pin_mhz(pin))


def pin_mhz(text: str | None) -> float | None:
    """``--pin-frequency 1500``; 0 for the highest, None where it is not wished.

    Raises:
        UsageError: it is no frequency.
    """
    if text is None:
        return None
    if text.lower() == HIGHEST:
        return 0.0
    value = number(text.lower().removesuffix("mhz").strip())
    if value is None or not 0 < value <= _MOST_MHZ:
        raise UsageError(
            f"{PIN} {text!r} is not a frequency in MHz",
            hint=f"{PIN} 1500, or {PIN} alone for the highest",
        )
    return value
