"""The archive's own ``edgeq/__init__.py``: imports all else out of one piece, ``agent.z``.

Compressed together, the sources take a quarter less than one by one.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
import typing
import zlib

PIECE = "agent.z"
_OWN = "/edgeq/__init__.py"


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
    """Finds and loads modules; ``sources`` by their paths in the archive."""

    def __init__(self, archive: str, sources: typing.Mapping[str, str]) -> None:
        self._archive = archive
        self._sources = sources

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        for file, package in (("/__init__.py", True), (".py", False)):
            path = name.replace(".", "/") + file
            if path in self._sources:
                origin = f"{self._archive}/{path}"
                loader = typing.cast(typing.Any, self)
                spec = importlib.machinery.ModuleSpec(
                    name, loader, origin=origin, is_package=package
                )
                spec.has_location = True
                if package:
                    spec.submodule_search_locations = [f"{self._archive}/{path[: -len(file)]}"]
                return spec
        return None

    def folder(self, path: str) -> Folder:
        """``sys.path_hooks``: what pkgutil asks for a package's modules."""
        start = self._archive + "/"
        inside = path[len(start) :] + "/"
        names = [name[len(inside) : -3] for name in self._sources if name.startswith(inside)]
        if not path.startswith(start) or not names:
            raise ImportError(path)
        return Folder(tuple(name for name in names if "/" not in name and name != "__init__"))

    def create_module(self, _: object) -> None:
        """The usual one will do."""

    def exec_module(self, module: types.ModuleType) -> None:
        source, origin = self.get_source(module.__name__), str(module.__file__)
        exec(compile(source, origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102

    def get_source(self, name: str) -> str:
        """For tracebacks, too."""
        path = name.replace(".", "/")
        return self._sources.get(path + ".py") or self._sources[path + "/__init__.py"]


def install(file: str, read: typing.Callable[[str], bytes]) -> None:
    """Let what is imported from now on come out of the piece beside ``file``."""
    archive = file[: -len(_OWN)]
    sources = json.loads(zlib.decompress(read(f"{archive}/{PIECE}")))
    modules = Modules(archive, sources)
    sys.meta_path.insert(0, typing.cast(typing.Any, modules))
    sys.path_hooks.insert(0, typing.cast(typing.Any, modules.folder))


if __name__ == "edgeq":
    install(__file__, globals()["__loader__"].get_data)
