"""The session: requests in, replies out, one at a time, until ``Bye`` or the end of the stream.

Needs no lock: Exists, Get, Probe, Ahead, Predict, Measure, ListReleases, Unpack, and Put to
``scratch/``, ``agents/`` and ``runtimes/``, whose names are their contents' hashes. All else is
refused without ``Lock``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import typing
from dataclasses import replace
from pathlib import Path

from edgeq import __version__, wire
from edgeq.agent import children, files, guard, proved
from edgeq.agent.ahead import Ahead
from edgeq.agent.durable import Disk
from edgeq.agent.install import STALE_S, Installer
from edgeq.agent.layout import (
    UNPACKING,
    Layout,
    Scratch,
    find_root,
    free_bytes,
    remove_dead_scratch,
    remove_old,
    require_content,
)
from edgeq.agent.lock import DeviceLock
from edgeq.agent.ports import FailureError, HostGoneError, HostSilentError, from_os_error
from edgeq.agent.talk import Talk

_Handler = typing.Callable[[typing.Any], typing.Optional[wire.Message]]
_CACHE_LIFE_S = 30 * 86400.0  # TensorRT's engines and what was proved are made again
_RUNTIMES_FAULT = ("runtime", "crash", "internal")
_OPEN_FOLDERS = ("agents", "runtimes", "scratch")


def main(machine: Path = Path("/")) -> int:
    """Serve the host on standard input and output; ``machine``: where /sys and /proc are."""
    sink = os.dup(1)
    os.dup2(2, 1)  # standard output belongs to the wire; prints go to standard error
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    talk = Talk(0, sink)
    try:
        root = find_root()
        scratch = Scratch(root)
    except OSError as error:
        talk.send(from_os_error(error).reply())
        return 1
    try:
        disk = Disk(int(os.environ.get("EDGEQ_FAULT_AT", "0")))
        return Session(Layout(root, scratch.folder), talk, disk, machine).run()
    except HostSilentError:
        return wire.SILENT_STATUS
    except HostGoneError:
        return 1
    finally:
        scratch.close()


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


class Session:
    """One host's talk with this agent."""

    def __init__(self, layout: Layout, talk: Talk, disk: Disk, machine: Path) -> None:
        self._layout = layout
        self._machine = machine
        self._notes: tuple[str, ...] = ()
        self._talk = talk
        self._disk = disk
        self._lock = DeviceLock(layout.root)
        self._installer = Installer(layout.root, disk)
        self._ahead = Ahead(layout.root, machine)
        self._upload: files.Upload | None = None
        self._handlers: dict[type[typing.Any], _Handler] = {
            wire.Lock: self._take_lock,
            wire.Put: self._put,
            wire.Data: self._data,
            wire.Get: self._get,
            wire.Exists: self._exists,
            wire.Unpack: self._unpack,
            wire.Probe: self._probe,
            wire.Ahead: self._start_ahead,
            wire.Predict: self._predict,
            wire.Measure: self._measure,
            wire.Clock: self._clock,
            wire.Wish: self._wish,
            wire.Stage: self._stage,
            wire.Seal: self._seal,
            wire.Commit: self._commit,
            wire.Discard: self._discard,
            wire.Rollback: self._rollback,
            wire.ListReleases: self._list,
        }

    def run(self) -> int:
        """Serve until the host is done; the exit status.

        Raises:
            HostGoneError: it hung up in the middle of a request.
        """
        with contextlib.suppress(OSError):
            self._notes = guard.recover(self._layout.root)
        try:
            return self._serve()
        finally:
            self._leave_tidy()

    def _leave_tidy(self) -> None:
        """However the session ended, a release that was not committed goes."""
        self._ahead.close()
        if self._lock.held:
            with contextlib.suppress(OSError, FailureError):
                self._installer.recover()
            self._lock.release()

    def _serve(self) -> int:
        self._talk.send(
            wire.Hello(
                protocol=wire.PROTOCOL,
                version=__version__,
                python="{}.{}.{}".format(*sys.version_info),
                root=str(self._layout.root),
                free_bytes=free_bytes(self._layout.root),
            )
        )
        while True:
            try:
                request = self._talk.receive()
            except wire.WireError as error:
                self._talk.send(wire.Failed("refused", f"not a request: {error}"))
                return 1
            if request is None or isinstance(request, wire.Bye):
                return 0
            reply = self._answer(request)
            if reply is not None:
                self._talk.send(reply)
            self._talk.discard()

    def _answer(self, request: wire.Message) -> wire.Message | None:
        """The reply; None when it was sent already."""
        handler = self._handlers.get(type(request))
        if handler is None:
            return wire.Failed("refused", f"{type(request).__name__} is no request")
        try:
            return handler(request)
        except FailureError as failure:
            return failure.reply()
        except OSError as error:
            return from_os_error(error).reply()

    def _take_lock(self, request: wire.Lock) -> wire.Message:
        self._lock.take(request.holder)
        self._installer.recover()
        remove_dead_scratch(self._layout.root)
        for folder in ("agents", "runtimes"):
            remove_old(self._layout.root / folder, (files.PART_MARK, UNPACKING), STALE_S)
        for folder in ("engines", proved.FOLDER):
            remove_old(self._layout.root / folder, ("",), _CACHE_LIFE_S)
        return wire.Done()

    def _put(self, request: wire.Put) -> wire.Message:
        self._upload = None
        require_content(request.size_bytes, request.sha256)
        path = self._layout.inside(request.path)
        folder = request.path.split("/", 1)[0]
        if folder not in _OPEN_FOLDERS or "/" not in request.path:
            self._require_lock()
            if not self._installer.accepts(path):
                raise FailureError("refused", f"{request.path!r} is no place for a file")
        with self._room_for(path):
            self._upload = files.begin(path, request, self._disk)
        if self._upload is None:
            return wire.PutState(have_bytes=request.size_bytes, complete=True)
        have_bytes = self._upload.have_bytes
        return wire.PutState(have_bytes, self._upload.prefix.hexdigest() if have_bytes else "")

    def _data(self, request: wire.Data) -> wire.Message:
        upload, self._upload = self._upload, None
        if upload is None:
            raise FailureError("refused", "data without a file to put it in")
        with self._room_for(upload.path):
            stamp = files.receive(upload, request, self._talk, self._disk)
        self._installer.remember(upload.path, stamp, upload.sha256)
        return wire.Done()

    @contextlib.contextmanager
    def _room_for(self, path: Path) -> typing.Iterator[None]:
        """What was gathered of a release goes when the disk is too full for the rest of it."""
        try:
            yield
        except (FailureError, OSError) as error:
            failure = error if isinstance(error, FailureError) else from_os_error(error)
            if failure.kind == "space":
                self._installer.give_up(path)
            raise

    def _get(self, request: wire.Get) -> None:
        files.send(self._layout.readable(request.path), self._talk)

    def _exists(self, request: wire.Exists) -> wire.Message:
        there = (path for path in request.paths if self._layout.inside(path).exists())
        return wire.Existing(tuple(there))

    def _unpack(self, request: wire.Unpack) -> wire.Message:
        archive, into = self._layout.inside(request.path), self._layout.inside(request.into)
        if into.parent not in {self._layout.root / "runtimes", self._layout.scratch}:
            raise FailureError("refused", f"{request.into!r} is no place to unpack to")
        from edgeq.agent import unpack  # here, since few sessions need it and starting is slow

        unpack.unpack(archive, into, self._disk, self._talk.send)
        return wire.Done()

    def _probe(self, request: wire.Probe) -> wire.Message:
        known = proved.find(self._layout.root, request.runtime)
        if known is not None and all(self._is_there(path) for path in request.runtime.paths):
            return known
        try:
            answer = self._ask(request, request.runtime, children.Limits(timeout_s=120.0))
        except FailureError as failure:
            detail = "\n".join(filter(None, (failure.message, failure.detail)))
            return wire.Probed(ok=False, detail=detail, kind=failure.kind)
        if isinstance(answer.message, wire.Probed):
            proved.keep(self._layout.root, request.runtime, answer.message, self._disk)
        return answer.message

    def _is_there(self, path: str) -> bool:
        return self._layout.inside(path).is_dir()

    def _start_ahead(self, request: wire.Ahead) -> wire.Message:
        self._ahead.start(replace(request, runtime=self._located(request.runtime)))
        return wire.Done()

    def _predict(self, request: wire.Predict) -> wire.Message:
        readable = self._layout.readable
        inner = replace(
            request,
            model=str(readable(request.model)),
            inputs=str(readable(request.inputs)),
            outputs=str(readable(request.outputs)),
        )
        limits = children.Limits(request.timeout_s, request.memory_mib)
        return self._ask(inner, request.runtime, limits).message

    def _measure(self, request: wire.Measure) -> None:
        from edgeq.agent.measure import Place, measure  # as above

        readable = self._layout.readable
        inner = replace(
            request,
            model=str(readable(request.model)),
            inputs=str(readable(request.inputs)) if request.inputs else "",
        )
        limits = children.Limits(request.timeout_s, request.memory_mib)
        self._ahead.settle(self._talk)
        measured, payload = measure(
            inner,
            lambda part: self._ask(part, request.runtime, limits),
            self._talk,
            Place(self._machine, self._layout.root),
        )
        notes, self._notes = self._notes, ()
        self._talk.send(replace(measured, notes=(*notes, *measured.notes)), payload)

    def _wish(self, request: wire.Wish) -> wire.Message:
        from edgeq.agent import affinity, pinning  # as above

        affinity.check(request.cpus, self._machine)
        pinning.check(request.pin_mhz, request.cpus, self._machine)
        return wire.Done()

    def _clock(self, _: wire.Clock) -> wire.Message:
        return wire.ClockRead(monotonic_ns=time.monotonic_ns(), wall_ns=time.time_ns())

    def _stage(self, request: wire.Stage) -> wire.Message:
        self._require_lock()
        return self._installer.stage(request)

    def _seal(self, request: wire.Seal) -> wire.Message:
        self._require_lock()
        with self._room_for(self._layout.root / request.folder / request.release):
            self._installer.seal(request)
        return wire.Done()

    def _commit(self, request: wire.Commit) -> wire.Message:
        self._require_lock()
        return self._installer.commit(request)

    def _discard(self, request: wire.Discard) -> wire.Message:
        self._require_lock()
        return self._installer.discard(request)

    def _rollback(self, request: wire.Rollback) -> wire.Message:
        self._require_lock()
        return self._installer.rollback(request)

    def _list(self, request: wire.ListReleases) -> wire.Message:
        return self._installer.list(request)

    def _ask(
        self, request: wire.Message, runtime: wire.Runtime, limits: children.Limits
    ) -> children.Answer:
        located = self._located(runtime)
        try:
            return children.ask(
                request,
                root=self._layout.root,
                runtime=located,
                limits=limits,
                talk=self._talk,
                on_progress=self._talk.send,
                process=self._ahead.take(request, located),
            )
        except FailureError as failure:
            if failure.kind == "memory" and self._ahead.close():
                # Once more, with the memory of those which waited.
                return self._ask(request, runtime, limits)
            if failure.kind in _RUNTIMES_FAULT:
                proved.forget(self._layout.root, runtime)
            raise

    def _located(self, runtime: wire.Runtime) -> wire.Runtime:
        paths = tuple(str(self._layout.readable(path)) for path in runtime.paths)
        return replace(runtime, paths=paths)

    def _require_lock(self) -> None:
        if not self._lock.held:
            raise FailureError("refused", "the device's lock is not held: send Lock first")
