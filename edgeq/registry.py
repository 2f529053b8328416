"""Things found by name: profiles, and adapters, whose file name is their registration."""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import edgeq
from edgeq.core import strict
from edgeq.core.profile import NamedProfile, Profile
from edgeq.errors import ConfigError, UsageError

_MODULE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_PROFILE_BYTES = 1 << 20


def find(kind: str, name: str, *args: object) -> object:
    """What ``edgeq/<kind>/<name>.py`` makes: the result of its ``make(*args)``.

    Outside packages add their own through an entry point called ``name`` in the group
    ``edgeq.<kind>``, which is a ``make`` or a module that has one. edgeq's own come first: nothing
    installed beside it can take their place.

    Raises:
        UsageError: there is none of that name; the hint has the nearest.
    """
    own = _own_names(kind)
    if name in own:
        made: object = importlib.import_module(f"edgeq.{kind}.{name}").make(*args)
        return made
    outside = _outside(kind)
    if name in outside:
        thing = outside[name].load()
        make = getattr(thing, "make", thing)
        result: object = make(*args)
        return result
    known = sorted({*own, *outside})
    raise UsageError(
        f"no {kind.removesuffix('s')} is called {name!r}", hint=_nearest(name, known, "known")
    )


def names(kind: str) -> tuple[str, ...]:
    """All that ``find`` knows of a kind, sorted."""
    return tuple(sorted({*_own_names(kind), *_outside(kind)}))


def profile(name: str) -> NamedProfile:
    """The profile called ``name``.

    A path, or else a name in ``./device_profiles``, or else one that came with edgeq.

    Raises:
        ConfigError: there is none, or its file is wrong.
    """
    if "/" in name or name.endswith(".toml"):
        return _read(Path(name).expanduser())
    if _PROFILE_NAME.fullmatch(name):
        for folder in _folders():
            path = folder / f"{name}.toml"
            if path.is_file():
                return _read(path)
    raise ConfigError(
        f"no profile is called {name!r}",
        hint=_nearest(name, _profile_names(), "there are") + "; or give the path of a .toml file",
    )


def local_names() -> frozenset[str]:
    """Profiles that mean this machine."""
    return frozenset(
        name for name, one in profiles().items() if one.profile.access.transport == "local"
    )


def profiles() -> Mapping[str, NamedProfile]:
    """All profiles by name, sorted; one in ``./device_profiles`` hides a packaged namesake.

    Raises:
        ConfigError: a file is wrong.
    """
    return {name: profile(name) for name in _profile_names()}


def _own_names(kind: str) -> tuple[str, ...]:
    if not _MODULE_NAME.fullmatch(kind):
        return ()
    package = importlib.import_module(f"edgeq.{kind}")
    return tuple(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if _MODULE_NAME.fullmatch(module.name) and _makes(package.__path__, module.name)
    )


def _makes(folders: Sequence[str], name: str) -> bool:
    """Whether a module has a ``make``, found out without an import (a neighbour may be heavy)."""
    sources = [Path(folder) / f"{name}.py" for folder in folders]
    return any(re.search(r"^def make\(", p.read_text(), re.M) for p in sources if p.is_file())


def _outside(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"edgeq.{kind}")}


def _folders() -> Iterator[Path]:
    yield Path("device_profiles")
    package = Path(edgeq.__file__).parent
    yield package / "device_profiles"  # an installed edgeq
    yield package.parent / "device_profiles"  # a checkout


def _profile_names() -> list[str]:
    found = {path.stem for folder in _folders() for path in folder.glob("*.toml")}
    return sorted(name for name in found if _PROFILE_NAME.fullmatch(name))


def _read(path: Path) -> NamedProfile:
    try:
        if path.stat().st_size > _MAX_PROFILE_BYTES:
            raise ConfigError(f"{path} is too large for a profile")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no profile {path}",
            hint="edgeq profiles list shows those that came with edgeq",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return NamedProfile(
        name=path.stem, path=path, profile=strict.parse(Profile, text, origin=str(path))
    )


def _nearest(name: str, known: Sequence[str], words: str) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"{words}: {', '.join(known)}" if known else "there are none"
