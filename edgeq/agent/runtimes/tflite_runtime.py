"""The older package ``tflite-runtime``, which still serves Python 3.8 and 32-bit ARM."""

from __future__ import annotations

from pathlib import Path

from edgeq.agent.interpreter import InterpreterRunner, version_of
from edgeq.agent.ports import Runner

NAME = "tflite-runtime"


def version() -> str:
    import tflite_runtime.interpreter

    return version_of(tflite_runtime, "tflite-runtime")


def load(model: Path, threads: int) -> Runner:
    from tflite_runtime.interpreter import Interpreter

    return InterpreterRunner(Interpreter(model_path=str(model), num_threads=threads))
