"""A person at the command line, with a home of their own, and a machine of the lab."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.machine import Machine

_ROOT = Path(__file__).parents[2]
_LIMIT_S = 900
# Of edgeq's cache, by content: what a conversion gave.
_SHARED = ("artifact", "quality", "judged", "samples")


@dataclass(frozen=True)
class Someone:
    home: Path

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """A command, to its end; the exit code is not judged."""
        return subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, words)],
            env=self._environment(os.environ),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def at(self, machine: Machine) -> tuple[object, ...]:
        """The words that reach a machine which was not added."""
        host = f"{machine.user}@{machine.host}:{machine.port}"
        return ("--host", host, "--identity", machine.key, "--accept-new")

    def add(
        self, machine: Machine, name: str, profile: object
    ) -> "subprocess.CompletedProcess[str]":
        return self.run("devices", "add", name, "--profile", profile, *self.at(machine))

    def _environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        kept = {key: value for key, value in ours.items() if not key.startswith("EDGEQ_")}
        kept.pop("SSH_AUTH_SOCK", None)
        return {
            **kept,
            "HOME": str(self.home),
            "EDGEQ_HOME": str(self.home / "edgeq"),
            "PYTHONPATH": str(_ROOT),
        }


def someone(home: Path) -> Someone:
    """Someone whose wheels are fetched, and whose models are converted, once for all tests."""
    wheels = Path(os.environ.get("EDGEQ_TEST_WHEELS") or Path.home() / ".cache/edgeq-lab/wheels")
    cache = home / "edgeq" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    shared = {"wheels": wheels, **{name: wheels.with_name("converted") / name for name in _SHARED}}
    for name, folder in shared.items():
        folder.mkdir(parents=True, exist_ok=True)
        if not (cache / name).exists():
            (cache / name).symlink_to(folder)
    return Someone(home)
