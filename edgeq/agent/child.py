"""A child's own end: one request in, progress and one reply out. It never outlives the agent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent import runtimes, solid
from edgeq.agent.ports import FailureError
from edgeq.agent.talk import Talk

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    """Carry out the request on standard input; 0 once a reply was sent, a ``Failed`` too."""
    sink = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not get between the messages
    _lower()
    # Under the root, so that runtimes and what their owner installed stay as they are.
    solid.keep_all(str(Path.cwd() / "pycache"))
    talk = Talk(0, sink)
    request = talk.receive(None)
    if isinstance(request, wire.Ahead):
        _warm(request)
        talk.send_sign_of_life()
        request = talk.receive(None)
    if request is None:
        return 0  # the agent is gone, or has no need of this process
    threading.Thread(target=_exit_with_agent, daemon=True).start()
    try:
        talk_reply, payload = _answer(request, talk.send)
    except FailureError as failure:
        talk_reply, payload = failure.reply(), b""
    except MemoryError:
        talk_reply, payload = (
            wire.Failed("memory", "the model needs more memory than there is"),
            b"",
        )
    talk.send(talk_reply, payload)
    sys.stderr.flush()
    os._exit(0)  # a runtime's own clean-up has been seen to crash; the answer is out already


def _warm(request: wire.Ahead) -> None:
    """Import what a request will need; what fails now fails again then, and is told then."""
    from edgeq.agent import predict

    with contextlib.suppress(FailureError):
        _hold(request.cpus)
        predict.import_runtime(runtimes.find(request.runtime.kind))


def _answer(
    request: wire.Message, on_progress: typing.Callable[[wire.Message], None]
) -> tuple[wire.Message, bytes]:
    if isinstance(request, wire.Probe):
        from edgeq.agent import probe

        return probe.run(runtimes.find(request.runtime.kind)), b""
    if isinstance(request, wire.Predict):
        from edgeq.agent import predict

        return predict.run(request, runtimes.find(request.runtime.kind), on_progress), b""
    if isinstance(request, wire.Measure):
        from edgeq.agent import bench

        _hold(request.cpus)
        return bench.run(request, runtimes.find(request.runtime.kind), on_progress, Path("/"))
    raise FailureError("internal", f"a child cannot do {request!r}")


def _hold(cpus: tuple[int, ...]) -> None:
    """Before the runtime is imported: its threads inherit it."""
    if cpus:
        from edgeq.agent import affinity

        affinity.hold(cpus)


def _lower() -> None:
    """Die with the agent, leave no core file, be the first to go when memory runs out."""
    with contextlib.suppress(OSError, AttributeError):  # the end of standard input tells as well
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # kernels without it choose by size, which is as good
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _exit_with_agent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
