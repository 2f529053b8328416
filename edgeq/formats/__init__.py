"""Model files as the host reads and runs them: one file a format, named by its suffix.

Inside worker processes only, as a hostile file may crash the library behind it.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.core.profile import Format

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Runner(Protocol):
    """A loaded model; inputs and outputs stand in the order of its own details."""

    tensors: Tensors

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """Outputs of one batch, in the tensors' own types.

        Raises:
            ModelError: the runtime cannot run it.
        """


class Module(Protocol):
    """A file of this package."""

    def runner(self, path: Path) -> Runner:
        """Load a model.

        Raises:
            ModelError: the runtime cannot.
        """

    def op_names(self, path: Path) -> tuple[str, ...]:
        """Names of the kinds of ops, sorted.

        Raises:
            ModelError: the file is damaged.
        """


def find(format_: Format) -> Module:
    """The reader of a format."""
    return cast("Module", importlib.import_module(f"{__name__}.{format_}"))


def of(path: Path) -> Module:
    """The reader of a file that edgeq made, by its suffix."""
    return find(cast("Format", path.suffix.removeprefix(".")))
