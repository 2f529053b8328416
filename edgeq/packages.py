"""Lists of pinned, hashed packages: ``requirements/NAME.txt``, made by ``scripts/pins/make``."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edgeq.errors import HostError

LISTS = Path(__file__).parent / "requirements"
_RATHER, _EXTRA = "-cpu", "-cuda"
_HEADER = re.compile(r"^# (python|size) (.+)$", re.MULTILINE)
_PACKAGE = re.compile(r"^([A-Za-z0-9._-]+)==\S+(?: *; *([^\\#\n]+?))? *\\?$", re.MULTILINE)
_KEY_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageList:
    """A file that pip reads.

    Attributes:
        packages: Canonical names and, where there is one, the marker that says where it is needed.
        size_mib: Roughly, installed.
    """

    path: Path
    packages: tuple[tuple[str, str], ...]
    size_mib: int

    def count(self, marks: Mapping[str, str]) -> int:
        """How many of them a Python with such markers gets."""
        fitting = (
            not marker or Marker(marker).evaluate(dict(marks)) for _, marker in self.packages
        )
        return sum(fitting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All lists of an environment.

    Attributes:
        key: Hash of their texts.
        python: Versions that fit: ``# python >=3.12`` in the list's header.
        rather: Builds of packages of ``main`` that are taken where pip finds them (a PyTorch for
            CPUs has a tenth of the size); None: there are none.
        main: The packages.
        extra: What is installed only if a package of ``main`` turns out to need it (a PyTorch for
            CUDA); None: there is none.
    """

    name: str
    key: str
    python: SpecifierSet
    rather: PackageList | None
    main: PackageList
    extra: PackageList | None


def find(name: str, lists: Path = LISTS) -> Wanted:
    """The lists of environment ``name``.

    Raises:
        HostError: this edgeq has none.
    """
    texts: dict[str, str] = {}
    for ending in (_RATHER, "", _EXTRA):
        path = lists / f"{name}{ending}.txt"
        if path.is_file():
            texts[ending] = path.read_text(encoding="utf-8")
    if "" not in texts:
        raise HostError(f"edgeq has no environment called {name}")
    read = {ending: _list(lists / f"{name}{ending}.txt", text) for ending, text in texts.items()}
    header = dict(_HEADER.findall(texts[""]))
    return Wanted(
        name=name,
        key=hashlib.sha256("\0".join(texts.values()).encode()).hexdigest()[:_KEY_CHARACTERS],
        python=SpecifierSet(header.get("python", ">=3.11")),
        rather=read.get(_RATHER),
        main=read[""],
        extra=read.get(_EXTRA),
    )


def names(lists: Path = LISTS) -> tuple[str, ...]:
    """All environments that edgeq may build, sorted."""
    stems = (path.stem for path in lists.glob("*.txt"))
    return tuple(sorted(stem for stem in stems if not stem.endswith((_RATHER, _EXTRA))))


def _list(path: Path, text: str) -> PackageList:
    found = _PACKAGE.findall(text)
    return PackageList(
        path=path,
        packages=tuple((canonicalize_name(name), marker) for name, marker in found),
        size_mib=int(dict(_HEADER.findall(text)).get("size", "0")),
    )
