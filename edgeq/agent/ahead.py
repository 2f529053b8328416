"""Model processes started before they are needed: they import their runtime side by side.

Each is as fresh as one that is started for its request, and serves one. Nothing is measured before
all of them have imported: from then on they sleep.
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent import children, memory
from edgeq.agent.ports import HostGoneError
from edgeq.agent.talk import Talk

# An imported runtime takes 40 to 150 MiB; a device with little is left alone.
_EACH_BYTES = _LEFT_BYTES = 128 << 20
_MOST = 8
_IMPORT_LIMIT_S = 120.0


@dataclass(frozen=True)
class _Waiting:
    runtime: wire.Runtime
    cpus: tuple[int, ...]
    process: children.Process

    def fits(self, request: wire.Message, runtime: wire.Runtime) -> bool:
        if isinstance(request, wire.Measure):
            return self.runtime == runtime and self.cpus == request.cpus
        return isinstance(request, wire.Predict) and self.runtime == runtime


class Ahead:
    """Those of one session. ``machine``: "/" but for recorded trees."""

    def __init__(self, root: Path, machine: Path) -> None:
        self._root = root
        self._machine = machine
        self._waiting: list[_Waiting] = []

    def start(self, request: wire.Ahead) -> None:
        """Start as many as are asked for, or as memory allows; the runtime's paths are absolute."""
        self.close()
        there = memory.available_bytes(self._machine) or 0
        most = max(0, (there - _LEFT_BYTES) // _EACH_BYTES)
        for _ in range(min(request.processes, most, _MOST)):
            try:
                process = children.start(self._root, request.runtime, request.cpus)
            except OSError:  # no room for another process: it is told when one is needed
                return
            self._waiting.append(_Waiting(request.runtime, request.cpus, process))
            children.tell(process, request)

    def take(self, request: wire.Message, runtime: wire.Runtime) -> children.Process | None:
        """One that fits and still lives, for the caller to end; None if there is none."""
        for one in list(self._waiting):
            if not one.fits(request, runtime):
                continue
            self._waiting.remove(one)
            if one.process.poll() is None:
                return one.process
            children.kill(one.process)
        return None

    def settle(self, talk: Talk) -> None:
        """Wait until each has imported; what has not after two minutes is ended.

        Raises:
            HostGoneError: the host went meanwhile.
        """
        poller = select.poll()
        talk.watch(poller)
        importing = {
            one.process.stdout.fileno(): one for one in self._waiting if one.process.stdout
        }
        for descriptor in importing:
            poller.register(descriptor, select.POLLIN)
        total, end_s = len(importing), time.monotonic() + _IMPORT_LIMIT_S
        while importing and time.monotonic() < end_s:
            talk.send(wire.Progress("start processes", total - len(importing), total))
            for descriptor, event in poller.poll(1000):
                if talk.is_hang_up(descriptor, event):
                    raise HostGoneError
                if importing.pop(descriptor, None) is not None:
                    poller.unregister(descriptor)  # it has said something, or has ended
            talk.require_host()
        for one in importing.values():
            self._waiting.remove(one)
            children.kill(one.process)

    def close(self) -> int:
        """End those that nobody needed; how many there were."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            children.kill(one.process)
        return len(waiting)
