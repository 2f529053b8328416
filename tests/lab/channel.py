"""The host's end of the management channel: one request and one answer as lines of JSON."""

import fcntl
import json
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from tests.lab.errors import ChannelError, LabError

_MORE_S = 5.0  # the answer's own way, beyond the time that the request may take


def ask(folder: Path, do: str, timeout_s: float = 30.0, **values: Any) -> dict[str, Any]:
    """Have the machine's agent ``do`` something; one caller at a time.

    Raises:
        ChannelError: no answer in time; the machine is off, frozen, or still booting.
        LabError: the agent could not do it.
    """
    request = {"id": secrets.token_hex(8), "do": do, "with": values}
    deadline = time.monotonic() + timeout_s + _MORE_S
    with (folder / "channel.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as port:
            try:
                port.connect(str(folder / "lab.sock"))
                port.settimeout(max(0.1, deadline - time.monotonic()))
                port.sendall(json.dumps(request).encode() + b"\n")
                reply = _reply(port, request["id"], deadline)
            except OSError as error:
                raise ChannelError(
                    f"{folder.name} does not answer {do!r}: {error}",
                    hint=f"is it on? its console: {folder / 'console.log'}",
                ) from error
    if "error" in reply:
        raise LabError(f"{folder.name}: {do}: {reply['error']}")
    result: dict[str, Any] = reply["result"]
    return result


def _reply(port: socket.socket, wanted: str, deadline: float) -> dict[str, Any]:
    """The answer with our number; answers that an earlier caller did not wait for are passed."""
    pending = b""
    while True:
        port.settimeout(max(0.01, deadline - time.monotonic()))
        chunk = port.recv(65536)
        if not chunk:
            raise OSError("the machine ended")
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            reply = _parsed(line)
            if reply.get("id") == wanted:
                return reply


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(line)
    except ValueError:
        return {}  # the rest of a line whose beginning another caller took
    return reply if isinstance(reply, dict) else {}
