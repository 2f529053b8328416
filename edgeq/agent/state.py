"""One model's folder: its links, and the switch from one release to another.

``current`` and ``previous`` are symbolic links into ``releases/``. ``state.json`` holds what is
about to happen (``pending``), the release under trial (``trial``) and the releases that were
committed, oldest first (``good``). A switch writes its intent, then replaces ``current`` by one
rename, the only commit point, then ``previous``, then clears the intent. ``recover`` finishes a
switch that passed that point and forgets one that did not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import typing
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.agent.durable import Disk
from edgeq.agent.layout import NAME, require_name

KEEP_RELEASES = 3
STAGING = ".staging-"
TRASH = ".trash-"
_LEFTOVERS = (".link-", ".state-", TRASH)


@dataclass(frozen=True)
class Switch:
    """What the links shall be; ``previous`` empty: no link."""

    current: str
    previous: str


@dataclass(frozen=True)
class State:
    pending: Switch | None = None
    trial: str = ""
    good: tuple[str, ...] = ()


class ModelFolder:
    """``models/<name>``. Changes need the device's lock."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self.releases = folder / "releases"
        self._disk = disk

    @property
    def current(self) -> str:
        return self._target("current")

    @property
    def previous(self) -> str:
        return self._target("previous")

    def names(self) -> tuple[str, ...]:
        """The sealed releases, by name."""
        try:
            names = [path.name for path in self.releases.iterdir()]
        except FileNotFoundError:
            return ()
        return tuple(sorted(filter(NAME.fullmatch, names)))

    def state(self) -> State:
        """``state.json``; a damaged one is as good as none, since the links say what is served."""
        try:
            return _parse(json.loads((self.folder / "state.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return State()

    def save(self, state: State) -> None:
        pending = state.pending
        fields: dict[str, object] = {
            "pending": None if pending is None else [pending.current, pending.previous],
            "trial": state.trial,
            "good": list(state.good),
        }
        self._disk.write_json(self.folder / "state.json", fields)

    def switch(self, to: Switch) -> None:
        """Serve another release."""
        self.save(replace(self.state(), pending=to))
        self._disk.symlink("releases/" + to.current, self.folder / "current")
        with contextlib.suppress(OSError):  # it is done; the intent stays, and recover() tidies up
            self._finish(to)

    def recover(self) -> None:
        """Bring an interrupted change to one of its two ends, and sweep up.

        What makes room comes before what may need some: the disk can be full. A trial whose session
        is over was not passed.
        """
        state = self.state()
        if state.pending is not None and self.current == state.pending.current:
            self._finish(state.pending)
            state = self.state()
        for path in [*self.folder.iterdir(), *(self.releases.iterdir() if self.names() else ())]:
            if path.name.startswith(_LEFTOVERS):
                _delete(path)
        kept = {self.current, self.previous, *state.good}
        if state.trial in set(self.names()) - kept:
            self.drop(state.trial)
        if state.pending is not None or state.trial:
            self.save(replace(state, pending=None, trial=""))

    def drop(self, release: str) -> None:
        """Remove a release that nothing refers to: out of sight at once, then bit by bit."""
        trash = self.releases / (TRASH + release)
        self._disk.rename(self.releases / release, trash)
        _delete(trash)

    def collect(self) -> None:
        """Remove all but current, previous and the last three that were committed."""
        good = self.state().good
        keep = {self.current, self.previous, *good[-KEEP_RELEASES:]}
        for release in self.names():
            if release not in keep:
                self.drop(release)
        if set(good) - keep:
            self.save(replace(self.state(), good=tuple(name for name in good if name in keep)))

    def _finish(self, to: Switch) -> None:
        link = self.folder / "previous"
        if to.previous and to.previous != self.previous:
            self._disk.symlink("releases/" + to.previous, link)
        elif not to.previous and link.is_symlink():
            self._disk.unlink(link)
        state = self.state()
        good = tuple(name for name in state.good if name != to.current)
        trial = "" if state.trial == to.current else state.trial
        self.save(State(pending=None, trial=trial, good=(*good, to.current)))

    def _target(self, link: str) -> str:
        """The release that a link names; empty when it dangles or there is none."""
        try:
            name = Path(os.readlink(self.folder / link)).name
        except OSError:
            return ""
        return name if NAME.fullmatch(name) and (self.releases / name).is_dir() else ""


def open_model(root: Path, name: str, disk: Disk) -> ModelFolder:
    """The folder of a model; it need not exist.

    Raises:
        FailureError: refused, when the name could not be a folder of ours.
    """
    return ModelFolder(root / "models" / require_name(name), disk)


def _parse(fields: dict[str, typing.Any]) -> State:
    pending = fields["pending"]
    return State(
        pending=None if pending is None else Switch(*(str(name) for name in pending)),
        trial=str(fields["trial"]),
        good=tuple(str(name) for name in fields["good"]),
    )


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path))
    else:
        path.unlink()
