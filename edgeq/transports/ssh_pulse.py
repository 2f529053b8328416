"""Asks the other end again and again whether it is there, by requests that it has to answer."""

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import Transport

# OpenSSH's own; any server answers it, if only with "no such request": RFC 4254, section 4.
_REQUEST = "keepalive@openssh.com"


def start(transport: "Transport", every_s: float) -> Callable[[], None]:
    """Begin, in a thread that ends with the connection; gives what ends it sooner."""
    from edgeq.transports.ssh_library import paramiko

    over = threading.Event()

    def ask() -> None:
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # it has just ended
            while not over.wait(every_s) and transport.is_active():
                # Waits for the answer; ``Wire.expect`` ends the connection when none comes.
                transport.global_request(_REQUEST, wait=True)

    threading.Thread(target=ask, daemon=True, name="ssh pulse").start()
    return over.set
