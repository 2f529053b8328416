"""Runtimes that run a model: one file each, named as ``wire.Runtime.kind``."""

from __future__ import annotations

import importlib
import pkgutil
import typing

from edgeq.agent.ports import FailureError, RuntimeModule


def find(kind: str) -> RuntimeModule:
    """The adapter of a runtime.

    Raises:
        FailureError: runtime, when there is no such file.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if kind not in names:
        message = "no runtime {!r}; this agent knows {}".format(kind, ", ".join(names))
        raise FailureError("runtime", message)
    return typing.cast("RuntimeModule", importlib.import_module(f"{__name__}.{kind}"))
