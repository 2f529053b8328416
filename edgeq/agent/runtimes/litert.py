"""LiteRT: the package ``ai-edge-litert``."""

from __future__ import annotations

from pathlib import Path

from edgeq.agent.interpreter import InterpreterRunner, version_of
from edgeq.agent.ports import Runner

NAME = "LiteRT"


def version() -> str:
    import ai_edge_litert.interpreter

    return version_of(ai_edge_litert, "ai-edge-litert")


def load(model: Path, threads: int) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    return InterpreterRunner(Interpreter(model_path=str(model), num_threads=threads))
