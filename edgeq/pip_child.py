"""pip, and Python's venv, as child processes: their lines, their end, what their errors mean."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from edgeq.errors import EdgeqError, FetchError, HostError

Feed = Callable[[bytes], None]
"""Gets each line of the output, and an empty one now and then."""

PART = re.compile(rb"^Progress (\d+) of (\d+)")
"""What ``--progress-bar=raw`` prints: bytes of a download."""

_POLL_S = 0.5
_LIMIT_S = 2 * 3600.0
_KEPT_LINES = 200
_NO_NETWORK = re.compile(
    r"connection broken|Failed to establish|Temporary failure|timed out|Max retries"
    r"|ConnectionError|SSLError|ProxyError|Network is unreachable|ReadTimeout",
    re.IGNORECASE,
)
_LEADS_ASTRAY = frozenset(
    {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_NO_BINARY"}
)
_REASON_CHARACTERS = 300


class NoPackageError(HostError):
    """pip reached its indexes, and they have no such package, or another build of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """How to run one.

    Attributes:
        purpose: Of what it does, for errors: ``the environment torch``.
        log: Open for writing.
        log_path: Where that is.
        lock: Descriptor that it inherits, so that a lock lives as long as it and its children do.
    """

    purpose: str
    log: IO[bytes]
    log_path: Path
    lock: int

    def run(self, command: Sequence[str], feed: Feed) -> None:
        """Run it to its end; it is killed with all its children when the caller leaves before.

        Raises:
            NoPackageError: see there.
            HostError: it failed in another way, or took too long.
            FetchError: pip could not reach its indexes.
        """
        tail: list[bytes] = []
        with self._process(command) as process:
            end = time.monotonic() + _LIMIT_S
            for line in _lines(cast("IO[bytes]", process.stdout), end):
                if line and not PART.match(line):
                    self.log.write(line + b"\n")
                    tail = [*tail[-_KEPT_LINES:], line]
                feed(line)
            status = process.wait()
        if status != 0:
            raise self._failure(b"\n".join(tail).decode(errors="replace"))

    @contextlib.contextmanager
    def _process(self, command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environ(),
            start_new_session=True,
            pass_fds=(self.lock,),
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            cast("IO[bytes]", process.stdout).close()

    def _failure(self, said: str) -> EdgeqError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        reason = ([*errors[-1:], *lines[-1:]] or ["it said nothing"])[0][:_REASON_CHARACTERS]
        log = f"its output is in {self.log_path}"
        if _NO_NETWORK.search(said):
            return FetchError(
                f"the packages of {self.purpose} could not be fetched: {reason}",
                hint="is this machine online? pip's own settings (index-url, proxy) are used; what "
                "was fetched once is kept",
            )
        if "DO NOT MATCH THE HASHES" in said:
            return NoPackageError(
                f"a package of {self.purpose} is not the one that edgeq was tested with",
                hint=f"does pip use an index with builds of its own? pip config list; {log}",
            )
        if "No matching distribution" in said:
            return NoPackageError(f"{self.purpose} cannot be built here: {reason}", hint=log)
        return HostError(f"{self.purpose} could not be built: {reason}", hint=log)


def _environ() -> dict[str, str]:
    """The user's with pip's settings (mirrors, proxies), less what leads to other packages."""
    kept = {key: value for key, value in os.environ.items() if key not in _LEADS_ASTRAY}
    return {**kept, "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONNOUSERSITE": "1"}


def _lines(stream: IO[bytes], end: float) -> Iterator[bytes]:
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if time.monotonic() > end:
                raise HostError(f"pip took more than {_LIMIT_S / 3600:.0f} hours and was stopped")
            if not selector.select(_POLL_S):
                yield b""
                continue
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            yield from (line.rstrip() for line in lines if line.strip())
