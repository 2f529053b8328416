"""Releases: Stage, Seal, Commit, Discard, Rollback, ListReleases.

A release is gathered in ``models/<name>/.staging-<random>``, checked there, and renamed into
``releases/``; it is never changed afterwards. What an interrupted push left in an older staging
folder is taken over by the next ``Stage``.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import shutil
import stat
import time
import typing
from dataclasses import replace
from pathlib import Path

from edgeq import wire
from edgeq.agent import files
from edgeq.agent.durable import Disk
from edgeq.agent.layout import require_content, require_name
from edgeq.agent.ports import FailureError
from edgeq.agent.state import STAGING, ModelFolder, Switch, open_model

STALE_S = 86400.0


class Installer:
    """The releases under one root."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._staged: set[Path] = set()
        # of the files that were hashed while they came in
        self._stamps: dict[Path, tuple[files.Stamp, str]] = {}

    def recover(self) -> None:
        """Mend what an earlier session left half done; call with the lock."""
        for name in self._models():
            model = open_model(self._root, name, self._disk)
            model.recover()
            for folder in _stagings(model):
                if time.time() - folder.stat().st_mtime > STALE_S:
                    shutil.rmtree(str(folder))
            if not model.names() and not _stagings(model):
                shutil.rmtree(str(model.folder))  # its first release never became one

    def accepts(self, path: Path) -> bool:
        """May a file be put there? Only into a folder of this session's ``Stage``."""
        return path.parent in self._staged

    def give_up(self, path: Path) -> None:
        """There is no room for a file of a release: nor is what was gathered of it to take any."""
        if self.accepts(path):
            self._staged.remove(path.parent)
            shutil.rmtree(str(path.parent))

    def remember(self, path: Path, stamp: files.Stamp, sha256: str) -> None:
        self._stamps[path] = (stamp, sha256)

    def stage(self, request: wire.Stage) -> wire.Staged:
        """Begin a release; see ``wire.Stage``.

        Raises:
            FailureError: refused, space.
        """
        for file in request.files:
            require_name(file.name)
            require_content(file.size_bytes, file.sha256)
        model = open_model(self._root, request.model, self._disk)
        sealed = model.releases / require_name(request.release)
        if _is_release(sealed, request.files):
            return wire.Staged(folder=self._relative(sealed), exists=True)
        staging = model.folder / (STAGING + os.urandom(8).hex())
        self._disk.mkdir(model.releases)
        self._disk.mkdir(staging)
        try:
            self._take_over(model, staging, request.files)
            missing = tuple(file for file in request.files if not self._link(model, staging, file))
            needed_bytes = sum(file.size_bytes - _part_bytes(staging, file) for file in missing)
            files.require_space(staging, needed_bytes)
        except (FailureError, OSError):
            shutil.rmtree(str(staging))
            raise
        self._staged.add(staging)
        return wire.Staged(self._relative(staging), tuple(file.name for file in missing))

    def seal(self, request: wire.Seal) -> None:
        """Check every file and show the release; see ``wire.Seal``.

        Raises:
            FailureError: refused, missing, hash.
        """
        model = open_model(self._root, request.model, self._disk)
        staging = self._root / request.folder
        if staging not in self._staged or staging.parent != model.folder:
            raise FailureError("refused", f"{request.folder!r} was not staged here")
        self._check(staging, request.files)
        sealed = model.releases / require_name(request.release)
        model.save(replace(model.state(), trial=request.release))
        if sealed.exists():
            self._mend(staging, sealed, request.files)
        else:
            self._disk.sync_folder(staging)
            self._disk.rename(staging, sealed)
        self._staged.remove(staging)

    def commit(self, request: wire.Commit) -> wire.Releases:
        """Serve a sealed release.

        Raises:
            FailureError: missing.
        """
        model = self._existing(request.model)
        if request.release not in model.names():
            raise FailureError("missing", f"no release {request.release!r} here")
        current, previous = model.current, model.previous
        if current != request.release:
            kept = current or ("" if previous == request.release else previous)
            model.switch(Switch(request.release, kept))
        with contextlib.suppress(OSError):  # the commit is done; the next one collects again
            model.collect()
        return _releases(request.model, model)

    def discard(self, request: wire.Discard) -> wire.Releases:
        """Go back from a release that failed; see ``wire.Discard``.

        After going back, ``previous`` is the last good release before that.

        Raises:
            FailureError: missing.
        """
        model = self._existing(request.model)
        bad, current, previous = request.release, model.current, model.previous
        if bad == current and previous:
            state = model.state()
            names = set(model.names()) - {bad, previous}
            older = [name for name in state.good if name in names]
            model.switch(Switch(previous, older[-1] if older else ""))
        if bad in model.names() and bad not in {model.current, model.previous}:
            model.drop(bad)  # first: it makes the room that the note may need
            state = model.state()
            good = tuple(name for name in state.good if name != bad)
            model.save(replace(state, good=good, trial="" if state.trial == bad else state.trial))
        return _releases(request.model, model)

    def rollback(self, request: wire.Rollback) -> wire.Releases:
        """Change ``current`` and ``previous``.

        Raises:
            FailureError: missing.
        """
        model = self._existing(request.model)
        current, previous = model.current, model.previous
        if not previous:
            raise FailureError("missing", f"{request.model!r} has no previous release")
        model.switch(Switch(previous, current))
        return _releases(request.model, model)

    def list(self, request: wire.ListReleases) -> wire.ReleaseList:
        """What is installed; an unknown model is just not in the answer.

        Raises:
            FailureError: refused.
        """
        wanted = [require_name(request.model)] if request.model else self._models()
        known = set(self._models())
        return wire.ReleaseList(
            tuple(
                _releases(name, open_model(self._root, name, self._disk))
                for name in wanted
                if name in known
            )
        )

    def _models(self) -> builtins.list[str]:
        try:
            return sorted(
                entry.name for entry in (self._root / "models").iterdir() if entry.is_dir()
            )
        except FileNotFoundError:
            return []

    def _existing(self, name: str) -> ModelFolder:
        model = open_model(self._root, name, self._disk)
        if not model.folder.is_dir():
            raise FailureError("missing", f"no model {name!r} here")
        return model

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _take_over(
        self, model: ModelFolder, staging: Path, wanted: typing.Sequence[wire.File]
    ) -> None:
        """Move parts and whole files of older staging folders here, then remove those."""
        for folder in _stagings(model):
            if folder == staging:
                continue
            for file in wanted:
                part = file.name + files.PART_MARK + file.sha256[:16]
                if (folder / part).is_file():
                    self._disk.rename(folder / part, staging / part)
                if files.is_whole(folder / file.name, file.size_bytes, file.sha256):
                    self._disk.rename(folder / file.name, staging / file.name)
            self._staged.discard(folder)
            shutil.rmtree(str(folder))

    def _link(self, model: ModelFolder, staging: Path, file: wire.File) -> bool:
        """Is the content here already, staged or in a release? Then link or copy it."""
        target = staging / file.name
        if target.exists():
            return True
        for release in reversed(model.names()):
            for source in sorted((model.releases / release).iterdir()):
                if not files.is_whole(source, file.size_bytes, file.sha256):
                    continue
                try:
                    self._disk.link(source, target)
                except OSError:  # Android's policy forbids hard links; FAT knows none
                    shutil.copyfile(str(source), str(target))
                return True
        return False

    def _check(self, staging: Path, wanted: typing.Sequence[wire.File]) -> None:
        """Every file is there, regular, as it should be and on the disk; and nothing else is."""
        extra = _names(staging) - {file.name for file in wanted}
        if extra:
            raise FailureError("refused", f"files that are not of the release: {sorted(extra)}")
        for file in wanted:
            path = staging / require_name(file.name)
            try:
                descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise FailureError("missing", f"{file.name} was not sent") from error
            try:
                self._check_file(descriptor, path, file)
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)

    def _check_file(self, descriptor: int, path: Path, file: wire.File) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
            raise FailureError("hash", f"{file.name}: not {file.size_bytes} bytes")
        if self._stamps.get(path) == (files.Stamp.of(descriptor), file.sha256):
            return
        digest = files.hash_descriptor(descriptor, file.size_bytes).hexdigest()
        if digest != file.sha256:
            raise FailureError("hash", f"{file.name}: SHA-256 is {digest}")

    def _mend(self, staging: Path, sealed: Path, wanted: typing.Sequence[wire.File]) -> None:
        """The release was there, but damaged: go file by file, as ``current`` may point there."""
        for file in wanted:
            self._disk.rename(staging / file.name, sealed / file.name)
        for name in _names(sealed) - {file.name for file in wanted}:
            self._disk.unlink(sealed / name)
        # A rename onto another link of the same file does nothing: rename(2). So names may be left.
        shutil.rmtree(str(staging))


def _stagings(model: ModelFolder) -> list[Path]:
    return [path for path in model.folder.iterdir() if path.name.startswith(STAGING)]


def _is_release(folder: Path, wanted: typing.Sequence[wire.File]) -> bool:
    return _names(folder) == {file.name for file in wanted} and all(
        files.is_whole(folder / file.name, file.size_bytes, file.sha256) for file in wanted
    )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _part_bytes(staging: Path, file: wire.File) -> int:
    part = staging / (file.name + files.PART_MARK + file.sha256[:16])
    return min(part.stat().st_size, file.size_bytes) if part.exists() else 0


def _releases(name: str, model: ModelFolder) -> wire.Releases:
    return wire.Releases(name, model.current, model.previous, model.names())
