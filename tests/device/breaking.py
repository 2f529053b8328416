"""A user who deploys to a machine that is being broken: bundles made by hand, and what is left."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

from edgeq import arrays
from edgeq.core import bundle
from edgeq.core.profile import Budgets
from tests.device.someone import Someone, someone
from tests.fakes import tiny_model

# Longer than every limit that edgeq states: what takes longer than this hangs.
LIMIT_S = 200.0
PROFILE = """
version = 1
description = "a machine of the lab that is broken on purpose"
[conversion]
precision = "float32"
[runtime]
kinds = ["tflite_runtime"]
[run]
processes = 1
runs = 5
seconds = 0.0
warmup_seconds = 0.0
warmup_max_seconds = 0.5
idle_seconds = 0.0
timeout_seconds = 60.0
"""
POINTS = np.array([[0.0, 1.0, 2.0, 3.0], [0.5, 0.25, -1.0, 4.0]], np.float32)
NAME = "net"
_HASHES = (
    "cd /home/pi/.edgeq/models/net 2>/dev/null && readlink current && cd -P current && sha256sum *"
    " | sort; true"
)
_REST = (
    "cd /home/pi/.edgeq 2>/dev/null && find ."
    " \\( -path './scratch/*' -o -name '*.part*' -o -name '.staging-*' -o"
    " -name '.unpack-*' -o -name '.trash-*' -o -name '.link-*' -o -name '.state-*' \\) -print;"
    " pgrep -f 'pyz (serve|child)'; true"
)


@dataclass(frozen=True)
class Made:
    """A bundle's file and what it puts on a device."""

    path: object
    release: str
    listing: str


class Breaker:
    """A machine with a user who may deploy bundles to it."""

    def __init__(self, machine, home):
        self.machine = machine
        self.user: Someone = someone(home)
        self._number = 0
        profile = home / "broken.toml"
        profile.write_text(PROFILE)
        done = self.user.add(machine, "board", profile)
        assert done.returncode == 0, done.stderr

    def bundle(self, model=None, *, padding_bytes=0):
        """Another release than all before."""
        self._number += 1
        bias = tiny_model.BIAS + np.float32(0)
        expected = POINTS @ tiny_model.WEIGHTS.T + bias
        files = {
            "model.tflite": (model or tiny_model.float_model()) + bytes(padding_bytes),
            bundle.GOLDEN_INPUTS: arrays.pack([POINTS]),
            bundle.GOLDEN_OUTPUTS: arrays.pack([expected.astype(np.float32)]),
            bundle.PREPROCESSING: json.dumps({"number": self._number}).encode(),
        }
        tensor = {"dtype": "float32"}
        manifest = bundle.Manifest(
            name=NAME,
            version=1,
            profile="broken",
            format="tflite",
            precision="float32",
            requested_precision="float32",
            inputs=(bundle.Tensor(name="x", shape=(1, 4), **tensor),),
            outputs=(bundle.Tensor(name="y", shape=(1, 3), **tensor),),
            files=bundle.describe(files),
            source=bundle.SourceEntry(name="m.h5", kind="keras-h5", sha256="a" * 64, size_bytes=9),
            tools={},
            quality=bundle.QualityEntry(samples=2, origin="random"),
            budgets=Budgets(),
        )
        sealed = bundle.seal(manifest, files)
        path = self.user.home / f"net{self._number}.edgeq"
        path.write_bytes(bundle.pack(sealed))
        sums = sorted(f"{_sha256(data)}  {name}" for name, data in sealed.contents.items())
        return Made(path, sealed.release, "\n".join([f"releases/{sealed.release}", *sums]))

    def start(self, made, *words):
        return Deploy(self.user, made, words)

    def deploy(self, made, *words):
        """Succeeds; the report."""
        with self.start(made, "--json", "report.json", *words) as running:
            code = running.end()
        assert code == 0, running.said
        assert self.served() == made.listing
        assert self.rest() == ""
        return self.report()

    def report(self):
        """The last one that was asked for."""
        return json.loads((self.user.home / "report.json").read_text())

    def fails(self, code, made, *words):
        """What it says when it fails as a command should."""
        with self.start(made, *words) as running:
            return running.failed(code)

    def served(self):
        """The active release's name, and its files' hashes as the device has them."""
        return self.machine.root(_HASHES).strip()

    def rest(self):
        """What is left over of sessions that are over: files, and processes."""
        for _ in range(60):
            found = self.machine.root(_REST).strip()
            if not found:
                break
            time.sleep(0.5)
        return found


class Deploy(contextlib.AbstractContextManager):
    """``edgeq deploy`` under way."""

    def __init__(self, user, made, words):
        self._lines = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeq", "deploy", made.path, "--device", "board", *words],
            cwd=user.home,
            env=user._environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self):
        return "\n".join(self._lines)

    def until(self, step):
        """Wait for a line of progress."""
        with self._heard:
            found = self._heard.wait_for(
                lambda: any(step in line for line in self._lines) or self._over(), LIMIT_S
            )
        assert found, f"no {step!r} in time: {self.said}"
        assert any(step in line for line in self._lines), self.said

    def end(self):
        """The exit code."""
        try:
            return self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs: {self.said}") from None
        finally:
            self._reader.join(5)

    def failed(self, code):
        """What it said, once it has ended as a command should that failed."""
        assert self.end() == code, self.said
        assert "Traceback" not in self.said
        assert "  try: " in self.said, self.said
        return self.said

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(5)
        self._process.stderr.close()

    def _over(self):
        return not self._reader.is_alive()

    def _read(self):
        for line in self._process.stderr:
            with self._heard:
                self._lines.append(line.rstrip())
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()


def _sha256(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()
