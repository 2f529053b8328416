"""LiteRT: the package ``ai-edge-litert``."""

from __future__ import annotations

from pathlib import Path

from edgeq import wire
from edgeq.agent.interpreter import SUFFIX, InterpreterRunner, check, providers, version_of
from edgeq.agent.ports import Runner

__all__ = ["NAME", "SUFFIX", "check", "load", "providers", "version"]

NAME = "LiteRT"


def version() -> str:
    import ai_edge_litert.interpreter

    return version_of(ai_edge_litert, "ai-edge-litert")


def load(model: Path, runtime: wire.Runtime, *, observe: bool) -> Runner:  # noqa: ARG001
    from ai_edge_litert.interpreter import Interpreter

    return InterpreterRunner(Interpreter(model_path=str(model), num_threads=runtime.threads))
