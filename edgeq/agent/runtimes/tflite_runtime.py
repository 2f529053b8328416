"""The older package ``tflite-runtime``, which still serves Python 3.8 and 32-bit ARM."""

from __future__ import annotations

from pathlib import Path

from edgeq import wire
from edgeq.agent.interpreter import SUFFIX, InterpreterRunner, check, providers, version_of
from edgeq.agent.ports import Runner

__all__ = ["NAME", "SUFFIX", "check", "load", "providers", "version"]

NAME = "tflite-runtime"


def version() -> str:
    import tflite_runtime.interpreter

    return version_of(tflite_runtime, "tflite-runtime")


def load(model: Path, runtime: wire.Runtime, *, observe: bool) -> Runner:  # noqa: ARG001
    from tflite_runtime.interpreter import Interpreter

    return InterpreterRunner(Interpreter(model_path=str(model), num_threads=runtime.threads))
