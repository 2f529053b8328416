"""What it means that a program on the device has ended without the words it was to say."""

import signal

from edgeq import wire
from edgeq.errors import AgentError, EdgeqError, LinkLostError

_SHELL_BASE = 128  # a shell's status for a program that a signal ended: 128 and its number
_UNKNOWN = -1  # SSH's, too, when the server tells of a signal


def explain(where: str, status: int, tail: str) -> EdgeqError:
    """The error for an agent that is gone.

    Args:
        where: The device, as the user calls it.
        status: As ``Completed`` has it.
        tail: The end of what it wrote to standard error.
    """
    said = f": {tail}" if tail else ""
    number = -status if status < _UNKNOWN else status - _SHELL_BASE
    if status == wire.SILENT_STATUS:
        return LinkLostError(
            f"the connection to {where} was lost: its agent had not heard of this machine for long",
            hint="start again: a transfer goes on where it broke off; nothing there was switched",
        )
    if number in (signal.SIGTERM, signal.SIGHUP):
        return LinkLostError(
            f"the connection to {where} was lost: its agent was told to end",
            hint="is it shutting down? start again when it is back: nothing on it was switched",
        )
    if number == signal.SIGKILL or status == _UNKNOWN:
        return AgentError(
            f"the agent on {where} was killed{said}",
            hint="start again, nothing was switched; if it happens again, its memory may be too"
            f" small for the model: edgeq devices doctor {where}",
        )
    return AgentError(
        f"the agent on {where} ended with status {status}{said}",
        hint="start again, nothing was switched; if it happens again, see what it says when it is"
        f" asked: edgeq devices doctor {where}",
    )


def start_up_hint(status: int) -> str:
    """The mend for a command of ours that said nothing at all; it always says something."""
    if status == 0:
        return (
            "its shell ends before it runs the command: see that ~/.bashrc neither exits nor starts"
            " another program where it is not interactive"
        )
    return "its shell does not run the command: try ssh with the words python3 --version"
