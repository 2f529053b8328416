"""Preprocessed samples on edgeq's own disk space, so that a folder of images is decoded once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.samples import Samples

_ARRAYS, _FACTS = "samples.npz", "samples.json"


def write(samples: Samples, folder: Path) -> None:
    """Write them into ``folder``."""
    # numpy's own types take keywords for its flags
    arrays: dict[str, Any] = {str(place): array for place, array in enumerate(samples.inputs)}
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    np.savez(folder / _ARRAYS, **arrays)
    facts = {
        "label_names": samples.label_names,
        "origin": samples.origin,
        "sha256": samples.sha256,
        "warnings": samples.warnings,
    }
    (folder / _FACTS).write_text(json.dumps(facts))


def read(folder: Path, origin: str) -> Samples:
    """What ``write`` wrote; ``origin`` is what the user called it this time."""
    facts = json.loads((folder / _FACTS).read_text())
    with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
        count = len([name for name in arrays.files if name != "labels"])
        samples = Samples(
            inputs=tuple(arrays[str(place)] for place in range(count)),
            labels=arrays["labels"] if "labels" in arrays.files else None,
            label_names=tuple(facts["label_names"]),
            origin=facts["origin"],
            sha256=facts["sha256"],
            warnings=tuple(_renamed(text, facts["origin"], origin) for text in facts["warnings"]),
        )
    return replace(samples, origin=origin)


def _renamed(text: str, before: str, now: str) -> str:
    """A warning that begins with what an earlier run called the same data."""
    return now + text.removeprefix(before) if text.startswith(f"{before} ") else text


def remove(folder: Path) -> None:
    """Take away what ``write`` wrote."""
    for name in (_ARRAYS, _FACTS):
        (folder / name).unlink()
