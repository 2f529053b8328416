"""Heavy or untrusted work in a child process with a limit on memory and time.

``call(load, request, …)`` runs ``load(request, on_progress)`` as ``python -m edgeq.worker``: the
function's name and its request go in as one JSON line; progress and the reply come back as JSON
lines on a descriptor of their own. Whatever the work prints goes to the log file.
"""

import contextlib
import ctypes
import errno
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar, cast

from edgeq import errors, surroundings
from edgeq.errors import EdgeqError, HostError, WorkerError
from edgeq.surroundings import PARENT

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
OnProgress = Callable[[str, int, int], None]
"""Progress: phase, done, total (0 when unknown)."""

_POLL_S = 0.1
_SHOWN_CHARACTERS = 300
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``memory_mib``: resident memory of the child and its children together."""

    memory_mib: int = 8192
    timeout_s: float = 1800.0


def call(
    function: Callable[[RequestT, OnProgress], ReplyT],
    request: RequestT,
    *,
    log: Path,
    limits: Limits = Limits(),
    on_progress: OnProgress | None = None,
    python: Path | None = None,
) -> ReplyT:
    """Run a module's function in a child and give its reply; nothing of the child is left.

    Args:
        function: Named at the top of an importable module; annotated, as its types read the JSON.
        request: A dataclass (paths, numbers, text, tuples, other dataclasses).
        log: The child's output is appended to it.
        limits: The child is killed beyond them.
        on_progress: Called in this thread.
        python: Of another environment (``environments.ensure``); it finds edgeq's modules, but
            none of the packages of edgeq's own environment. None: edgeq's own.

    Raises:
        EdgeqError: what the function raised, same class, message and hint.
        WorkerError: the child crashed or went beyond a limit, or the function raised another error.
        HostError: the log cannot be written.
    """
    from pydantic import TypeAdapter

    line = json.dumps(
        {
            "function": f"{function.__module__}:{function.__qualname__}",
            "request": TypeAdapter(type(request)).dump_python(request, mode="json"),
        }
    )
    with (
        _log_file(log) as output,
        surroundings.search_path(python) as paths,
        _child(output, python, paths) as child,
    ):
        watch = _Watch(child, limits, log)
        _send(child, line)
        for message in watch.messages():
            if message["kind"] == "progress" and on_progress:
                on_progress(message["phase"], message["done"], message["total"])
            elif message["kind"] == "error":
                raise _error(message, log)
            elif message["kind"] == "reply":
                hints = typing.get_type_hints(function)
                return cast(
                    "ReplyT", TypeAdapter(hints["return"]).validate_python(message["value"])
                )
        raise watch.crashed()


@contextlib.contextmanager
def _log_file(log: Path) -> Iterator[IO[bytes]]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        stream = log.open("ab")
    except OSError as error:
        raise HostError(f"cannot write {log}: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _child(
    output: IO[bytes], python: Path | None, paths: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a process group of its own, which is killed at the end, however that comes."""
    # -P: a json.py in the current folder is not to be imported; -s: nor the user's packages
    flags = ["-P"] if python is None else ["-P", "-s"]
    process = subprocess.Popen(
        [str(python or sys.executable), *flags, "-m", "edgeq.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        env=surroundings.environment(os.environ, paths, elsewhere=python is not None),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _send(child: "subprocess.Popen[bytes]", line: str) -> None:
    stdin = cast("IO[bytes]", child.stdin)
    # a child that died at once is reported by what it left behind, not by the broken pipe
    with contextlib.suppress(BrokenPipeError):
        stdin.write(line.encode() + b"\n")
        stdin.flush()


class _Watch:
    """Reads a child's messages and kills it when it goes beyond its limits."""

    def __init__(self, child: "subprocess.Popen[bytes]", limits: Limits, log: Path) -> None:
        self._child = child
        self._limits = limits
        self._log = log
        self._end = time.monotonic() + limits.timeout_s

    def messages(self) -> Iterator[dict[str, typing.Any]]:
        """Until the end of the child's output."""
        stream = cast("IO[bytes]", self._child.stdout)
        buffer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if selector.select(_POLL_S):
                    chunk = os.read(stream.fileno(), 1 << 16)
                    if not chunk:
                        return
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    yield from map(json.loads, lines)
                self._check_limits()

    def crashed(self) -> WorkerError:
        """The child ended without a reply."""
        status = self._child.wait()
        how = f"with status {status}"
        if status < 0:
            how = f"by {signal.Signals(-status).name}"
        return WorkerError(f"the worker ended {how}", hint=f"its output is in {self._log}")

    def _check_limits(self) -> None:
        if time.monotonic() > self._end:
            raise WorkerError(
                f"the worker took more than {self._limits.timeout_s:g} s and was stopped",
                hint=f"its output is in {self._log}",
            )
        used_mib = _resident_mib(self._child.pid)
        if used_mib > self._limits.memory_mib:
            raise WorkerError(
                f"the worker took {used_mib} MiB of memory, more than {self._limits.memory_mib}, "
                "and was stopped",
                hint="is the model too large for this machine?",
            )


def _resident_mib(pid: int) -> int:
    import psutil

    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_info().rss
    return total >> 20


def _error(message: Mapping[str, str], log: Path) -> EdgeqError:
    kind = getattr(errors, message["class"], WorkerError)
    hint = message["hint"] or (f"its output is in {log}" if kind is WorkerError else "")
    made: EdgeqError = kind(message["message"], hint=hint)
    return made


def main() -> None:
    """The child: read the request, do the work, answer."""
    _die_with_parent()
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: object) -> None:
        wire.write(json.dumps(message) + "\n")
        wire.flush()

    def progress(phase: str, done: int, total: int) -> None:
        say(kind="progress", phase=phase, done=done, total=total)

    def tell_bug(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        traceback.print_exception(kind, error, trace)
        last = traceback.format_exception_only(kind, error)[-1].strip()[:_SHOWN_CHARACTERS]
        text = f"the worker failed: {last}"
        say(kind="error", **{"class": "WorkerError", "message": text, "hint": ""})

    sys.excepthook = tell_bug
    line = json.loads(sys.stdin.readline())
    try:
        say(kind="reply", value=_work(line["function"], line["request"], progress))
    except EdgeqError as error:
        traceback.print_exc()
        say(
            kind="error",
            **{"class": type(error).__name__, "message": error.message, "hint": error.hint},
        )
    except OSError as error:
        if error.errno not in _FULL:
            raise
        traceback.print_exc()
        say(kind="error", **{"class": "HostError", "message": str(error), "hint": "free space"})


def _work(name: str, request: object, on_progress: OnProgress) -> object:
    from pydantic import TypeAdapter

    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    hints = typing.get_type_hints(function)
    first = next(iter(hints))
    reply = function(TypeAdapter(hints[first]).validate_python(request), on_progress)
    return TypeAdapter(hints["return"]).dump_python(reply, mode="json")


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when edgeq dies without a chance to clean up: prctl(2)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT]):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
