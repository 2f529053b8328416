"""What a device lacks to run a model, and what would help."""

from edgeq.core.machine import Facts, PythonFacts
from edgeq.core.profile import RUNTIMES, Format, Profile, RuntimeKind
from edgeq.errors import PreflightError
from edgeq.examination import version_tuple
from edgeq.runtimes import PACKAGES

GPU_PACKAGE = "onnxruntime-gpu"
_GPU_PROVIDERS = frozenset({"TensorRT", "CUDA"})
_ONNX_ARCHITECTURES = frozenset({"aarch64", "x86_64"})
_PYTHONS_32_BIT = frozenset({(3, 9), (3, 11)})
_GLIBC_32_BIT = (2, 34)


def kinds_of(profile: Profile, wanted: Format, where: str) -> tuple[RuntimeKind, ...]:
    """The runtimes of a profile that run a format.

    Raises:
        PreflightError: it names none.
    """
    kinds = profile.runtime.kinds_for(wanted)
    if not kinds:
        known = ", ".join(f'"{kind}"' for kind in RUNTIMES[wanted])
        raise PreflightError(
            f"the profile of {where} names no runtime that runs a .{wanted}",
            hint=f"take another --format, or add one to its [runtime] kinds: {known}",
        )
    return kinds


def asks_for_gpu(profile: Profile) -> bool:
    """Whether it takes a build of ONNX Runtime that cannot be sent to a device."""
    return bool(_GPU_PROVIDERS & set(profile.runtime.providers))


def none_to_be_had(
    kinds: tuple[RuntimeKind, ...], facts: Facts, pythons: tuple[PythonFacts, ...], where: str
) -> PreflightError:
    """The error when none of these is installed and none can be sent."""
    names = " or ".join(PACKAGES[kind] for kind in kinds)
    versions = ", ".join(".".join(map(str, python.version[:2])) for python in pythons)
    problems = [
        f"{kind} there does not import: {python.problems[kind].strip().splitlines()[-1][:120]}"
        for python in pythons
        for kind in kinds
        if python.problems.get(kind, "").strip()
    ]
    what = f"there is no {names} for Python {versions} on {facts.architecture}"
    if facts.libc:
        what += f" with {facts.libc} {facts.libc_version or ''}".rstrip()
    return PreflightError(
        f"{where}: {'; '.join([what, *problems])}", hint=_mend(kinds, facts, pythons)
    )


def _mend(kinds: tuple[RuntimeKind, ...], facts: Facts, pythons: tuple[PythonFacts, ...]) -> str:
    """What would work, in the order of what rules most out."""
    onnx = kinds == RUNTIMES["onnx"]
    if facts.libc == "bionic":
        package = "python-onnxruntime" if onnx else "python-tflite-runtime"
        return f"in Termux: pkg install python-numpy {package}"
    if facts.libc == "musl":
        return "packages are made for glibc: take a Debian, Ubuntu or Raspberry Pi OS system there"
    if onnx and facts.architecture not in _ONNX_ARCHITECTURES:
        return "there is no package of ONNX Runtime for this processor: take --format tflite"
    if facts.architecture.startswith("arm"):
        return _mend_32_bit(facts, pythons)
    oldest = "3.8" if onnx else "3.9"
    return (
        f"a Python from {oldest} to 3.13 on a 64-bit glibc system can be served; install one there"
    )


def _mend_32_bit(facts: Facts, pythons: tuple[PythonFacts, ...]) -> str:
    """Of tflite-runtime 2.14.0 there are wheels for armv7l, and none is newer."""
    if facts.architecture.startswith("armv6"):
        return "nothing is made for ARMv6: with an ARMv7 or ARMv8 processor, take a newer system"
    fitting = [python for python in pythons if python.version[:2] in _PYTHONS_32_BIT]
    if not fitting or version_tuple(facts.libc_version or "") < _GLIBC_32_BIT:
        return (
            "on 32-bit ARM there is tflite-runtime for Python 3.9 and 3.11 with glibc 2.34 or newer"
            " (Raspberry Pi OS bookworm); or take a 64-bit system"
        )
    known = [python.runtimes["numpy"] for python in fitting if "numpy" in python.runtimes]
    if not known:
        return "there is no wheel of numpy for it; on the device: sudo apt install python3-numpy"
    return (
        f"tflite-runtime needs numpy 1, and there is {known[0]};"
        " on the device: sudo apt install python3-numpy"
    )
