"""What this machine's processor does to products of 8 bits."""

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8"})


def overflows(cpuinfo: Path = _CPUINFO, machine: str = "") -> bool:
    """Whether ONNX Runtime's fast products of uint8 and int8 may overflow here.

    x86 without VNNI adds two of them in 16 bits, and cuts off what does not fit (VPMADDUBSW). With
    weights of 7 bits they fit: https://onnxruntime.ai/docs/performance/quantization.html
    """
    if (machine or platform.machine()) not in ("x86_64", "AMD64", "i686"):
        return False
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return True  # unknown: what is safe on each
    flags = next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "")
    return not _VNNI & set(flags.split())
