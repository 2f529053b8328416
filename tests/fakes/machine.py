"""A machine's /sys as real files, and a real agent that takes them for its machine's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fakes.agent import Agent

_SERVE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
    " from edgeq.agent import serve; raise SystemExit(serve.main(Path(sys.argv[2])))"
)
LITTLE, BIG = (600_000, 1_000_000, 1_500_000), (800_000, 1_800_000, 2_400_000)


def build(root: Path, celsius: float = 45.0) -> Path:
    """Four CPUs of two kinds, a thermal zone; /proc is this machine's own."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "proc").symlink_to("/proc")
    online = Path("/sys/devices/system/cpu/online").read_text()
    write(root / "sys/devices/system/cpu/online", online)
    policy(root, "policy0", cpus="0 1", steps=LITTLE)
    policy(root, "policy2", cpus="2 3", steps=BIG)
    write(root / "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    heat(root, celsius)
    return root


def policy(root: Path, name: str, cpus: str, steps: tuple[int, ...], governor="schedutil") -> Path:
    folder = root / "sys/devices/system/cpu/cpufreq" / name
    listed = " ".join(map(str, steps))
    for file, text in {
        "affected_cpus": cpus,
        "related_cpus": cpus,
        "scaling_governor": governor,
        "scaling_driver": "cpufreq-dt",
        "scaling_available_governors": "ondemand performance schedutil",
        "scaling_available_frequencies": listed,
        "scaling_min_freq": steps[0],
        "scaling_max_freq": steps[-1],
        "cpuinfo_min_freq": steps[0],
        "cpuinfo_max_freq": steps[-1],
        "scaling_cur_freq": steps[-1],
        "scaling_setspeed": "<unsupported>",
    }.items():
        write(folder / file, str(text))
    return folder


def heat(root: Path, celsius: float) -> None:
    write(root / "sys/class/thermal/thermal_zone0/temp", f"{round(1000 * celsius)}")


def write(path: Path, text: str) -> None:
    """As the kernel changes a value: no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text + "\n")
    fresh.replace(path)


def settings(root: Path) -> dict[str, str]:
    """Governor and limits of every policy."""
    folder = root / "sys/devices/system/cpu/cpufreq"
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    return {
        f"{policy.name} {name}": (policy / name).read_text().strip()
        for policy in sorted(folder.iterdir())
        for name in names
    }


def start(archive: Path, machine: Path, folder: Path, **options) -> Agent:
    """An agent on that machine, with its folder there; its ``Hello`` is still to be received."""
    before = options.pop("before", [])
    environment = options.pop("environment", {})
    process = subprocess.Popen(
        [*before, sys.executable, "-B", "-c", _SERVE, str(archive), str(machine)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "EDGEQ_ROOT": str(folder), **environment},
        **options,
    )
    return Agent(process, folder)
