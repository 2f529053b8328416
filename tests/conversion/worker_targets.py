"""Functions that tests run in worker processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ModelError
from edgeq.worker import OnProgress


@dataclass(frozen=True)
class Request:
    path: Path = Path("/nowhere")
    number: int = 0


@dataclass(frozen=True)
class Reply:
    path: Path
    numbers: tuple[int, ...]


def double(request: Request, on_progress: OnProgress) -> Reply:
    on_progress("double", 1, 2)
    sys.stdout.write("noise on standard output\n")
    sys.stdout.flush()
    os.write(1, b"noise on the descriptor\n")
    return Reply(path=request.path, numbers=(request.number, 2 * request.number))


def refuse(request: Request, on_progress: OnProgress) -> Reply:  # noqa: ARG001
    raise ModelError(f"{request.path} is bad", hint="mend it")


def crash(request: Request, on_progress: OnProgress) -> Reply:
    os.kill(os.getpid(), signal.SIGSEGV)
    return double(request, on_progress)


def fail(request: Request, on_progress: OnProgress) -> Reply:  # noqa: ARG001
    raise ZeroDivisionError


def hang(request: Request, on_progress: OnProgress) -> Reply:
    """With a grandchild, both leaving their process ids."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    request.path.write_text(f"{os.getpid()} {other.pid}")
    time.sleep(600)
    return double(request, on_progress)


def grow(request: Request, on_progress: OnProgress) -> Reply:  # noqa: ARG001
    blocks = []
    while True:
        blocks.append(bytearray(os.urandom(1) * (32 << 20)))
        time.sleep(0.05)


def which_modules(request: Request, on_progress: OnProgress) -> Reply:  # noqa: ARG001
    source = sys.modules["json"].__file__ or ""
    return Reply(path=Path(source), numbers=())
