"""Who really ran the model, by what ``benchmark_model`` says, and whether that was asked for.

A delegate that takes nothing, or only a part, leaves the rest to the CPU, and the latency that is
then printed looks like any other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgeq.core.profile import Delegate

_APPLIED = re.compile(
    r"[Aa]pplied (?P<name>[\w -]+?) delegate, and the model graph will be"
    r" (?P<how>completely|partially)\s+executed(?:.*?w/ (?P<kernels>\d+) delegate kernels)?"
)
_REFUSED = re.compile(r"Though (?P<name>[\w -]+?) delegate is explicitly applied, the model")
_FAILED = re.compile(
    r"(?:[Ff]ailed to (?:apply|create|load)|[Cc]ould not (?:apply|create)|[Cc]an(?:'t|not) create)"
    r" (?:the )?(?P<name>[\w-]+?)(?: external)? delegate"
    r"|(?P<unsupported>\w+) (?:acceleration|delegate) is (?:unsupported|not supported)"
)
_REPLACED = re.compile(
    r"Replacing (?P<nodes>\d+)(?: out of (?P<total>\d+))? node\(s\) with delegate"
    r" \((?P<kernel>[^)]+)\)"
)
_CREATED = re.compile(r"Created TensorFlow Lite (?P<name>XNNPACK) delegate")
_ACCELERATORS = re.compile(r"NNAPI accelerators available: \[(?P<names>[^\]]*)\]")
# NNAPI's own implementation on the CPU.
_REFERENCE = "nnapi-reference"
_ON_CPU = frozenset({"xnnpack"})
_KERNELS = {
    "tflitexnnpackdelegate": "XNNPACK",
    "tflitegpudelegatev2": "GPU",
    "tflitegpudelegate": "GPU",
    "tflitennapidelegate": "NNAPI",
    "tflitehexagondelegate": "Hexagon",
}
_FLAGS: dict[Delegate, tuple[str, ...]] = {
    "cpu": (),
    "none": ("--use_xnnpack=false",),
    "xnnpack": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true",),
    "nnapi": ("--use_nnapi=true",),
    "hexagon": ("--use_hexagon=true",),
}
_SWITCH = re.compile(r"--(?:use_(gpu|nnapi|hexagon|xnnpack|coreml)|(external)_delegate_path)(=.*)?")
_OFF = frozenset({"=false", "=0", "="})


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Nodes that a delegate took; ``total`` None where the build does not say of how many."""

    name: str
    nodes: int
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a log says of delegates; names in lower case are keys.

    Attributes:
        complete: Delegates that ran the whole graph; ``partial``: a part of it.
        refused: Were applied and took nothing.
        failed: Could not be applied.
        accelerators: Of NNAPI.
    """

    complete: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    placed: tuple[Placed, ...] = ()
    accelerators: tuple[str, ...] = field(default=())


def flags(delegate: Delegate) -> tuple[str, ...]:
    """What asks for it."""
    return _FLAGS[delegate]


def wanted(words: Sequence[str]) -> tuple[str, ...]:
    """The delegates that flags ask for, in lower case."""
    found = []
    for word in words:
        if (switch := _SWITCH.fullmatch(word)) and switch[3] not in _OFF:
            found.append(switch[1] or switch[2])
    return tuple(dict.fromkeys(found))


def parse(lines: Sequence[str]) -> Told:
    """Read a log."""
    text = "\n".join(lines)
    applied = list(_APPLIED.finditer(text))
    named = [found["name"] or found["unsupported"] for found in _FAILED.finditer(text)]
    accelerators = [found["names"] for found in _ACCELERATORS.finditer(text)]
    return Told(
        complete=tuple(found["name"] for found in applied if found["how"] == "completely"),
        partial=tuple(found["name"] for found in applied if found["how"] == "partially"),
        refused=tuple(found["name"] for found in _REFUSED.finditer(text)),
        failed=tuple(named),
        created=tuple(found["name"] for found in _CREATED.finditer(text)),
        placed=tuple(_placed(found) for found in _REPLACED.finditer(text)),
        accelerators=tuple(
            name.strip() for name in ",".join(accelerators).split(",") if name.strip()
        ),
    )


def used(told: Told) -> str | None:
    """Who ran the model, in words; None where the log does not say."""
    if told.placed:
        shares: dict[str, tuple[int, int]] = {}
        for one in told.placed:
            nodes, total = shares.get(one.name, (0, 0))
            shares[one.name] = nodes + one.nodes, total + (one.total or 0)
        return ", ".join(
            f"{name} {nodes} of {total} nodes" if total else f"{name} {nodes} nodes"
            for name, (nodes, total) in shares.items()
        )
    names = (*told.complete, *(f"{name} in part" for name in told.partial))
    return ", ".join(dict.fromkeys(names or told.created)) or None


def fallbacks(told: Told, words: Sequence[str], unconsumed: Sequence[str]) -> Iterator[str]:
    """A sentence for each delegate that was asked for and did not run all of the model.

    Args:
        told: What the log says.
        words: The flags that the program got.
        unconsumed: Those that it did not know.
    """
    dropped = wanted(unconsumed)
    for name in wanted(words):
        why = "this build does not know its flag" if name in dropped else _why_not(told, name)
        if why:
            yield f"{name} was asked for: {why}"


def _why_not(told: Told, name: str) -> str:
    """Why a delegate did not do what was asked of it; empty when it did."""
    if _has(told.failed, name):
        return "it could not be applied, so the CPU ran the model"
    if _has(told.refused, name):
        return "it took no part of the model, so the CPU ran it"
    if name == "nnapi" and told.accelerators and set(told.accelerators) <= {_REFERENCE}:
        return f"this device has only {_REFERENCE}, which runs on the CPU"
    # What XNNPACK leaves, other kernels of the CPU run: that is no fallback.
    if name in _ON_CPU or _has(told.complete, name):
        return ""
    return _share(told, name)


def _share(told: Told, name: str) -> str:
    """How much less than the whole model a delegate ran; empty when it was the whole."""
    mine = [one for one in told.placed if one.name.lower() == name]
    nodes, total = sum(one.nodes for one in mine), sum(one.total or 0 for one in mine)
    if total:
        return "" if nodes == total else f"it ran {nodes} of {total} nodes, the CPU the rest"
    if _has(told.partial, name):
        return "it ran a part of the model, the CPU the rest"
    return "what ran the model is not known"


def _has(names: Sequence[str], name: str) -> bool:
    return any(one.lower().replace("_", " ").split(" ")[0] == name for one in names)


def _placed(found: re.Match[str]) -> Placed:
    kernel = found["kernel"]
    total = int(found["total"]) if found["total"] else None
    return Placed(name=_KERNELS.get(kernel.lower(), kernel), nodes=int(found["nodes"]), total=total)
