"""A profile from a machine: which one it is, or else one made of what was found there."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from edgeq import bare, examination, provision, wheels
from edgeq.archive import examine_script
from edgeq.core import detected, toml_text
from edgeq.core.detected import Runs, Way
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.core.profile import Format, NamedProfile, Profile, RuntimeKind
from edgeq.errors import EdgeqError, FetchError, NoPythonError
from edgeq.places import Places
from edgeq.ports import Link, OnProgress
from edgeq.runtimes import PACKAGES, RuntimeStore

_KINDS: tuple[tuple[RuntimeKind, Format], ...] = (
    ("litert", "tflite"),
    ("tflite_runtime", "tflite"),
    ("onnxruntime", "onnx"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What a machine is.

    Attributes:
        known: The profile that the machine is one of; None: ``derived`` is its profile.
        unlike: Why it is not ``like``, though the board is the same.
        text: The profile as a file.
    """

    name: str
    facts: Facts
    runs: tuple[Runs, ...]
    known: NamedProfile | None
    like: NamedProfile | None
    unlike: str
    profile: Profile
    notes: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to look at.

    Attributes:
        profile: The one the device was added with; it says where its Python is.
        name: Of the profile to be; None: by the machine's model.
    """

    device: Device
    profile: Profile
    name: str | None = None


def detect(
    link: Link,
    wish: Wish,
    known: Mapping[str, NamedProfile],
    places: Places,
    on_progress: OnProgress,
) -> Detected:
    """Look at a machine and say its profile; nothing on it changes.

    Raises:
        DeviceError: it cannot be examined.
        ConnectError: the connection broke.
    """
    where = wish.device.name
    on_progress("examine", 0, 0)
    facts = _examine(link, wish, where)
    store = RuntimeStore(places.cache / "wheels", wheels.fetch)
    runs = tuple(_runs(facts, store, where, on_progress))
    like = detected.match(facts, known, wish.device.transport)
    unlike = _unlike(like, facts, where) if like else ""
    head = _head(facts, runs)
    if like is not None and not unlike:
        name, profile, text = like.name, like.profile, _copy(like, head)
        notes: Mapping[str, str] = {}
    else:
        derived = detected.derive(facts, runs, _way(wish))
        name, profile, notes = detected.name_of(facts), derived.profile, derived.notes
        text = toml_text.write(derived.values, notes, [*head, *_remarks(like, unlike)])
    return Detected(
        name=wish.name or name,
        facts=facts,
        runs=runs,
        known=None if unlike else like,
        like=like,
        unlike=unlike,
        profile=profile,
        notes=notes,
        text=text,
    )


def _way(wish: Wish) -> Way:
    return Way(transport=wish.device.transport, port=wish.device.port or wish.profile.access.port)


def _remarks(like: NamedProfile | None, unlike: str) -> list[str]:
    if like is None:
        return []
    return [f"The board is a {like.name}, but not as that profile says: {unlike}."]


def _examine(link: Link, wish: Wish, where: str) -> Facts:
    hint = examination.python_hint(wish.device, wish.profile)
    if wish.device.transport == "local":
        hint = wish.device.python or sys.executable
    try:
        return examination.examine(link, examine_script(), hint, where)
    except NoPythonError:
        return bare.examine(link, where)[0]


def _unlike(like: NamedProfile, facts: Facts, where: str) -> str:
    try:
        examination.check(like.profile, facts, where, {})
    except EdgeqError as error:
        return error.message.rpartition("is not what its profile says: ")[2]
    return ""


def _runs(facts: Facts, store: RuntimeStore, where: str, on_progress: OnProgress) -> Iterator[Runs]:
    """Each runtime: what is installed, or what could be sent."""
    for kind, format_ in _KINDS:
        on_progress(f"look for {PACKAGES[kind]}", 0, 0)
        profile = Profile.model_validate({"description": "any", "runtime": {"kinds": [kind]}})
        try:
            plan = provision.plan(profile, facts, store, where, format_=format_)
        except FetchError as error:
            yield Runs(kind=kind, format=format_, how=error.message, mend=error.hint, sure=False)
        except EdgeqError as error:
            how = error.message.removeprefix(f"{where}: ")
            yield Runs(kind=kind, format=format_, how=how, mend=error.hint)
        else:
            newest = plan.choice.version == _own_version(kind)
            how = f"{plan.choice}, for {plan.python.path}"
            yield Runs(
                kind=kind, format=format_, version=plan.choice.version, newest=newest, how=how
            )


def _own_version(kind: RuntimeKind) -> str | None:
    try:
        return metadata.version(PACKAGES[kind])
    except metadata.PackageNotFoundError:
        return None


def _head(facts: Facts, runs: Sequence[Runs]) -> list[str]:
    """What was seen, as comments on top of the file."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    pythons = "; ".join(
        f"{'.'.join(map(str, one.version))} at {one.path}"
        + (
            f" with {', '.join(f'{k} {v}' for k, v in one.runtimes.items())}"
            if one.runtimes
            else ""
        )
        for one in facts.pythons
    )
    return [
        f"{facts.model or facts.cpu or 'A machine'}, found by edgeq profiles detect on {today}.",
        f"Processor: {detected.cores_in_words(facts)}, {facts.architecture},"
        f" {detected.instruction_set(facts) or 'instruction set unknown'}.",
        f"System: {examination.describe(facts)}, Linux {facts.kernel}.",
        f"Python: {pythons or 'none'}.",
        f"Sensors: {'; '.join(facts.sensors) or 'none'}.",
        *(_run_line(one) for one in runs),
    ]


def _run_line(one: Runs) -> str:
    if one.version is not None:
        return f"Runs .{one.format}: {one.how}."
    sure = "Does not run" if one.sure else "Unknown whether it runs"
    mend = f"; {one.mend}" if one.mend else ""
    return f"{sure} {PACKAGES[one.kind]} (.{one.format}): {one.how}{mend}."


def _copy(one: NamedProfile, head: Sequence[str]) -> str:
    """The known profile's own text, under what was seen."""
    seen = [*head, f"This is {one.name}: what follows is that profile, unchanged."]
    top = toml_text.write({}, {}, seen).rstrip("\n")
    return f"{top}\n#\n{one.path.read_text(encoding='utf-8')}"
