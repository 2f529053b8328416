"""From what a machine is to the profile of its kind. Pure: facts in, values and reasons out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.core.machine import Facts, PythonFacts
from edgeq.core.profile import Format, NamedProfile, Profile, RuntimeKind

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8"})
_GPU = {"TensorrtExecutionProvider": "TensorRT", "CUDAExecutionProvider": "CUDA"}
_OLDEST_PYTHON = (3, 8)
_ARM = ("aarch64", "armv7l", "armv6l")
# The newest ONNX opset and IR version that each ONNX Runtime takes; newer ones take these too.
# https://onnxruntime.ai/docs/reference/compatibility.html, and the versions of ONNX they hold.
_ONNX_OF = {
    (1, 15): (19, 8),
    (1, 16): (19, 9),
    (1, 17): (20, 9),
    (1, 18): (21, 10),
    (1, 21): (22, 10),
    (1, 23): (23, 11),
}
_SHARE_OF_MEMORY = 0.9

Values = dict[str, dict[str, Any]]
Notes = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Whether a runtime runs on a machine.

    Attributes:
        version: None: it does not run.
        newest: The version is this host's own, so that whatever this host writes suits it.
        how: Where it comes from, or why there is none.
        mend: What would help.
        sure: False: it could not be found out.
    """

    kind: RuntimeKind
    format: Format
    version: str | None = None
    newest: bool = False
    how: str = ""
    mend: str = ""
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a machine is reached."""

    transport: str = "ssh"
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A profile's values, and for ``section.key`` where the value came from."""

    values: Values
    notes: Notes

    @property
    def profile(self) -> Profile:
        return Profile.model_validate(self.values)


def match(
    facts: Facts, known: Mapping[str, NamedProfile], transport: str = "ssh"
) -> NamedProfile | None:
    """The known profile of this board: by its model, then its CPU, and whether its GPU is used.

    Phones have no profiles by model: the one of Android that is reached in the same way.
    """
    fitting = [(score, named) for named in known.values() if (score := _score(facts, named))]
    if fitting:
        return max(fitting, key=lambda pair: (pair[0], -len(pair[1].name)))[1]
    phones = (named for named in known.values() if _is_phone(named.profile, facts, transport))
    return next(phones, None)


def _is_phone(profile: Profile, facts: Facts, transport: str) -> bool:
    return (
        facts.libc == "bionic"
        and profile.system.kind == "android"
        and profile.access.transport == transport
        and not profile.machine.models
    )


def _score(facts: Facts, named: NamedProfile) -> tuple[int, bool, bool] | None:
    """How well it fits; None: it is not this board."""
    machine = named.profile.machine
    if machine.architectures and facts.architecture not in machine.architectures:
        return None
    begun = [len(start) for start in machine.models if _begins(facts.model, start)]
    if not begun:
        return None
    asks = bool({"TensorRT", "CUDA"} & set(named.profile.runtime.providers))
    return max(begun), machine.cpu == facts.cpu, asks == bool(_gpu_providers(facts))


def _begins(model: str | None, start: str) -> bool:
    """Whether a model begins so; boards of one name spell their maker in several ways."""
    return bool(model) and _plain(str(model)).startswith(_plain(start))


def _plain(name: str) -> str:
    words = re.sub(r"[\s_-]+", " ", name.strip().lower())
    return words.removeprefix("nvidia ")


def instruction_set(facts: Facts) -> str | None:
    """The part of it that int8 models gain from; None where that is not known."""
    flags = set(facts.cpu_flags)
    if facts.architecture == "aarch64":
        more = [name for flag, name in (("asimddp", "dotprod"), ("i8mm", "i8mm")) if flag in flags]
        return "+".join(["armv8.2-a" if more else "armv8-a", *more]) if flags else None
    if facts.architecture == "armv7l":
        neon = {"neon", "asimd"} & flags
        return "armv7-a+neon" if neon else "armv7-a" if flags else None
    if facts.architecture in ("x86_64", "i686"):
        more = [name for name in ("avx2", "avx512f") if name in flags]
        more += ["vnni"] if _VNNI & flags else []
        return "+".join(["x86-64" if facts.architecture == "x86_64" else "i686", *more])
    return {"armv6l": "armv6"}.get(facts.architecture, facts.cpu_flags[0] if flags else None)


def cores_in_words(facts: Facts) -> str:
    """``4 x Cortex-A76 at 2400 MHz + 4 x Cortex-A55 at 1800 MHz``."""
    if len(facts.clusters) > 1 or any(one.max_mhz for one in facts.clusters):
        return " + ".join(
            f"{one.cores} x {one.cpu or 'unknown'}"
            + (f" at {one.max_mhz:.0f} MHz" if one.max_mhz else "")
            for one in facts.clusters
        )
    cores = f"{facts.cores} x " if facts.cores else ""
    return f"{cores}{facts.cpu or 'unknown processor'}"


def name_of(facts: Facts) -> str:
    """A profile's name for a machine."""
    words = _plain(_kind(facts.model) or facts.cpu or facts.architecture or "machine")
    plain = re.sub(r"[^a-z0-9.]+", "-", words).strip("-.")
    return plain[:40].strip("-.") or "machine"


def derive(facts: Facts, runs: Sequence[Runs], way: Way) -> Derived:
    """The profile of a machine that is like no known one; budgets are left open."""
    values: Values = {"": {"version": 1, "description": _description(facts)}}
    notes: dict[str, str] = {}
    for section, part in (
        ("machine", _machine(facts)),
        ("system", _system(facts)),
        ("conversion", _conversion(facts, runs)),
        ("runtime", _runtime(facts, runs)),
        ("access", _access(way)),
        ("telemetry", _telemetry(facts)),
        ("budgets", {}),
    ):
        values[section] = {key: value for key, (value, _) in part.items()}
        notes |= {f"{section}.{key}": note for key, (_, note) in part.items() if note}
    notes["budgets"] = "left open: what is too much depends on the model"
    top = values.pop("")
    return Derived(values={**top, **values}, notes=notes)


_Part = dict[str, tuple[Any, str]]


def _kind(model: str | None) -> str | None:
    """The model without what tells one board of a kind from the next."""
    return re.sub(r"\s+Rev\b.*$", "", model).strip() or None if model else None


def _description(facts: Facts) -> str:
    words = f"{_kind(facts.model) or facts.os or facts.system}, {cores_in_words(facts)}"
    return "".join(c if c.isprintable() else " " for c in words)[:200]


def _machine(facts: Facts) -> _Part:
    part: _Part = {}
    kind = _kind(facts.model)
    if kind:
        part["models"] = ([kind], "the device tree's or the firmware's name of the board")
    if facts.cpu:
        several = f"/proc/cpuinfo: {cores_in_words(facts)}" if facts.clusters else "/proc/cpuinfo"
        part["cpu"] = (facts.cpu, several)
    found = instruction_set(facts)
    if found:
        part["instruction_set"] = (found, "flags in /proc/cpuinfo")
    if facts.cores:
        part["cores"] = (facts.cores, "those that the user may use")
    part["architectures"] = ([facts.architecture], "uname -m, and what its programs are")
    if facts.memory_mib:
        least = max(1, int(facts.memory_mib * _SHARE_OF_MEMORY) // 10 * 10)
        part["memory_min_mib"] = (least, f"a tenth less than MemTotal, {facts.memory_mib:.0f} MiB")
    return part


def _system(facts: Facts) -> _Part:
    android = facts.libc == "bionic"
    part: _Part = {"kind": ("android" if android else "linux", "")}
    best = best_python(facts)
    found = ", ".join(_dotted(one.version) for one in facts.pythons) or "none"
    if best is None:
        part["python_min"] = ("3.8", f"edgeq's least; there is {found}: install a newer one")
    else:
        part["python_min"] = (_dotted(best.version[:2]), f"found: {found}")
    if facts.libc == "glibc" and facts.libc_version:
        numbers = re.match(r"\d+\.\d+", facts.libc_version)
        part["glibc_min"] = (numbers.group() if numbers else "2.17", "its own")
    elif facts.libc is not None:
        words = f"{facts.libc} {facts.libc_version or ''}".strip()
        part["glibc_min"] = ("none", f"its C library is {words}")
    return part


def best_python(facts: Facts) -> PythonFacts | None:
    """The newest that edgeq can use."""
    usable = [one for one in facts.pythons if one.version >= _OLDEST_PYTHON]
    return max(usable, key=lambda one: one.version, default=None)


def _conversion(facts: Facts, runs: Sequence[Runs]) -> _Part:
    gpu = _gpu_providers(facts)
    formats = [one.format for one in runs if one.version is not None or not one.sure]
    format_ = "onnx" if gpu or (formats and "tflite" not in formats) else "tflite"
    part: _Part = {
        "format": (format_, "what runs there: see kinds"),
        "precision": ("int8", "the smallest, and the fastest where the processor has the products"),
        "input_dtype": ("float32", "the program around the model need not know its scales"),
        "output_dtype": ("float32", ""),
    }
    if gpu:
        part["activations"] = ("int8", "TensorRT takes no unsigned ones")
    elif facts.architecture in _ARM:
        part["activations"] = ("int8", "of a .onnx: ONNX Runtime's first choice")
    else:
        part["activations"] = ("auto", "of a .onnx: as the runtime needs it")
    own = next((one for one in runs if one.kind == "onnxruntime" and one.version), None)
    limits = _onnx_limits(own) if own else None
    if own and limits:
        note = f"of a .onnx: what ONNX Runtime {own.version} takes, which runs there"
        part |= {"opset_max": (limits[0], note), "ir_max": (limits[1], "")}
    return part


def _onnx_limits(own: Runs) -> tuple[int, int] | None:
    numbers = re.match(r"(\d+)\.(\d+)", own.version or "")
    if own.newest or numbers is None:
        return None
    version = int(numbers.group(1)), int(numbers.group(2))
    older = [limits for first, limits in _ONNX_OF.items() if first <= version]
    return older[-1] if older else None


def _runtime(facts: Facts, runs: Sequence[Runs]) -> _Part:
    there = [one.kind for one in runs if one.version is not None or not one.sure]
    gpu = _gpu_providers(facts)
    if gpu:
        there = ["onnxruntime"]
    words = "; ".join(
        f"{one.kind} {one.version or ('unknown' if not one.sure else 'no')}" for one in runs
    )
    kinds = there or [one.kind for one in runs] or ["litert", "tflite_runtime", "onnxruntime"]
    note = words if there else f"none runs there yet: {words}"
    threads = "small models gain nothing from more"
    if len(facts.clusters) > 1:
        threads = "big and little cores: more threads wait for the slowest"
    part: _Part = {"kinds": (kinds, note), "threads": (1, threads)}
    if gpu:
        part["providers"] = ([*gpu, "CPU"], "what its ONNX Runtime offers")
    return part


def _gpu_providers(facts: Facts) -> list[str]:
    if not facts.gpu:
        return []
    offered = [name for one in facts.pythons for name in one.providers]
    return list(dict.fromkeys(_GPU[name] for name in offered if name in _GPU))


def _access(way: Way) -> _Part:
    part: _Part = {"transport": (way.transport, "")}
    if way.transport == "ssh":
        part["port"] = (way.port or 22, "")
    return part


def _telemetry(facts: Facts) -> _Part:
    seen = facts.sources
    words = [sensor.partition(": ") for sensor in facts.sensors]
    power = "; ".join(text for kind, _, text in words if kind == "power")
    thermal = "; ".join(text for kind, _, text in words if kind == "temperature")
    return {
        "power": (list(seen.power), power or "no meter: power is unknown"),
        "thermal": (list(seen.thermal), thermal or "no zone: temperature is unknown"),
        "throttling": (list(seen.throttling), "" if seen.throttling else "no way to know"),
        "sample_hz": (10.0, ""),
    }


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
