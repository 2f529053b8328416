"""Progress on stderr: live lines in a terminal, one plain line a step elsewhere."""

import sys
import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgeq.ports import OnProgress

_MIB = 1 << 20
# Phases that count bytes.
_BYTES = frozenset({"push"})
# A phase that counts tenths of degrees down to its total.
_COOLING = "cool down"
_SAID_EVERY_TENTHS = 50


class Steps:
    """Shows what goes on, in lines that may go on side by side (``model``, ``device``).

    Every new phase is a step; its bar moves when the phase knows its total. A context manager.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._lock = threading.Lock()
        self._active: dict[str, TaskID] = {}
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._said: set[tuple[str, str]] = set()
        self._bar = Progress(
            TextColumn("{task.fields[line]:<7}"),
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[amount]:>18}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._live,
        )

    def line(self, name: str) -> OnProgress:
        """A callback for one line of work."""

        def report(phase: str, done: int = 0, total: int = 0) -> None:
            with self._lock:
                if self._live:
                    self._show(name, phase, done, total)
                elif not self._quiet:
                    self._say(name, _plain(phase, done, total), _step(phase, done))

        return report

    def note(self, text: str) -> None:
        """Say a line that stays, above what is live."""
        with self._lock:
            if self._live:
                self._bar.console.print(text, markup=False, highlight=False)
            elif not self._quiet:
                print(text, file=sys.stderr, flush=True)  # noqa: T201 - stderr

    def _say(self, name: str, text: str, step: str) -> None:
        if (name, step) not in self._said:
            self._said.add((name, step))
            print(f"{name}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - stderr

    def _show(self, name: str, phase: str, done: int, total: int) -> None:
        """A phase that comes again, as with each measuring process, has its one bar again."""
        task = self._tasks.get((name, phase))
        if task is None:
            task = self._bar.add_task(phase, line=name, amount="")
            self._tasks[name, phase] = task
        before = self._active.get(name)
        if before != task:
            if before is not None:
                self._finish(before)
            self._bar.reset(task, total=total or None)
            self._active[name] = task
        amount = _amount(phase, done, total)
        if phase == _COOLING:
            done = total = 0  # how long it will take is not known
        self._bar.update(task, completed=done, total=total or None, amount=amount)
        if total and done >= total:
            self._bar.stop_task(task)

    def _finish(self, task: TaskID) -> None:
        self._bar.update(task, total=1, completed=1, amount="")
        self._bar.stop_task(task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            for task in self._active.values():
                self._finish(task)
        self._bar.stop()


def _plain(phase: str, done: int, total: int) -> str:
    amount = _amount(phase, done, total) if phase == _COOLING else ""
    return f"{phase}: {amount}" if amount else phase


def _step(phase: str, done: int) -> str:
    """What is said once: a phase, and every five degrees of cooling."""
    return f"{phase} {done // _SAID_EVERY_TENTHS}" if phase == _COOLING else phase


def _amount(phase: str, done: int, total: int) -> str:
    if phase == _COOLING:
        return f"{done / 10:.1f} to {total / 10:g} °C"
    if not total:
        return ""
    if phase in _BYTES and total >= _MIB:
        return f"{done / _MIB:.1f} of {total / _MIB:.1f} MiB"
    return f"{100 * done // total} %"
