"""The archive's own ``edgeq/__init__.py``: imports all else out of one piece, ``agent.z``.

Compressed together, the sources take a quarter less than one by one. What was compiled is kept in
the agent's folder, never beside a program of the device's owner: compiling takes longer than all
else that starting a process needs.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
import typing
import zlib

PIECE = "agent.z"
_OWN = "/edgeq/__init__.py"
_HOME, _KEPT = "agents", "pycache"
# What marshal says of bytes that a power cut left.
_TORN = (EOFError, ValueError, TypeError, ImportError)


class Keeper(importlib.machinery.SourceFileLoader):
    """Loads a module; what it has to compile it keeps under ``folder``, if that is not empty."""

    folder = ""

    def get_code(self, fullname: str) -> types.CodeType | None:
        if not self.folder or os.path.exists(importlib.util.cache_from_source(self.path)):
            return super().get_code(fullname)
        before = sys.pycache_prefix, sys.dont_write_bytecode
        sys.pycache_prefix, sys.dont_write_bytecode = self.folder, False
        try:
            return super().get_code(fullname)
        except _TORN:
            with contextlib.suppress(OSError):
                os.unlink(importlib.util.cache_from_source(self.path))
            return super().get_code(fullname)
        finally:
            sys.pycache_prefix, sys.dont_write_bytecode = before


class Member(Keeper):
    """A module of the piece."""

    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_data(self, path: str) -> bytes:
        return self._source.encode() if path == self.path else super().get_data(path)

    def path_stats(self, _path: str) -> dict[str, typing.Any]:
        """The archive is named by its hash: another source has another path."""
        return {"mtime": 1, "size": len(self._source.encode())}


class Folder:
    """The modules of one package, by name; loading them is ``Modules``' work."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def iter_modules(self, prefix: str = "") -> typing.Iterator[tuple[str, bool]]:
        for name in self._names:
            yield prefix + name, False

    def find_spec(self, _name: str, _target: object = None) -> None:
        """``Modules`` is asked first and knows all there is."""


class Modules:
    """Finds modules; ``sources`` by their paths in the archive."""

    def __init__(self, archive: str, sources: typing.Mapping[str, str]) -> None:
        self._archive = archive
        self._sources = sources

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        for file in ("/__init__.py", ".py"):
            path = name.replace(".", "/") + file
            if path in self._sources:
                origin = f"{self._archive}/{path}"
                loader = Member(name, origin, self._sources[path])
                return importlib.util.spec_from_file_location(name, origin, loader=loader)
        return None

    def folder(self, path: str) -> Folder:
        """``sys.path_hooks``: what pkgutil asks for a package's modules."""
        start = self._archive + "/"
        inside = path[len(start) :] + "/"
        names = [name[len(inside) : -3] for name in self._sources if name.startswith(inside)]
        if not path.startswith(start) or not names:
            raise ImportError(path)
        return Folder(tuple(name for name in names if "/" not in name and name != "__init__"))


def install(file: str, read: typing.Callable[[str], bytes]) -> None:
    """Let what is imported from now on come out of the piece beside ``file``."""
    archive = file[: -len(_OWN)]
    home, name = os.path.split(os.path.dirname(archive))
    if name == _HOME:
        Keeper.folder = os.path.join(home, _KEPT)
    sources = json.loads(zlib.decompress(read(f"{archive}/{PIECE}")))
    modules = Modules(archive, sources)
    sys.meta_path.insert(0, typing.cast(typing.Any, modules))
    sys.path_hooks.insert(0, typing.cast(typing.Any, modules.folder))


def keep_all(folder: str) -> None:
    """From now on keep what any module is compiled to; what its owner has compiled is used."""
    Keeper.folder = folder
    hook = importlib.machinery.FileFinder.path_hook(
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (Keeper, importlib.machinery.SOURCE_SUFFIXES),
        (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
    )
    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


if __name__ == "edgeq":
    install(__file__, globals()["__loader__"].get_data)
