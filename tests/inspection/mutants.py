"""Reads mutated models in forked children; prints what came of each as JSON.

``python -m tests.inspection.mutants FILE COUNT``
"""

import json
import os
import random
import sys
import tempfile
from pathlib import Path

# What the children use is loaded once, before they are forked.
import onnxruntime  # noqa: F401
from ai_edge_litert import interpreter  # noqa: F401
from ai_edge_litert.tools import flatbuffer_utils  # noqa: F401

from edgeq.core.inspection import ModelSection, dump
from edgeq.errors import EdgeqError
from edgeq.inspection import work


def mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed anywhere, cut short, four bytes set to an extreme, or small edits."""
    choose = random.Random(seed)
    changed = bytearray(data)
    match seed % 4:
        case 0:
            for _ in range(choose.randint(1, 20)):
                changed[choose.randrange(len(changed))] = choose.randrange(256)
        case 1:
            changed = changed[: choose.randrange(1, len(changed))]
        case 2:
            at = choose.randrange(len(changed) - 4)
            extremes = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            changed[at : at + 4] = choose.choice(extremes)
        case _:
            for _ in range(choose.randint(1, 4)):
                changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def outcome(path: Path) -> str:
    """``ok``, or the error's sentence; runs in the child."""
    format_ = path.suffix.removeprefix(".")
    section = ModelSection(
        source="m", kind=format_, format=format_, size_bytes=1, sha256="", pivot=False
    )
    try:
        found = work.look(work.LookRequest(path=path, model=section, wanted=None), lambda *_: None)
    except EdgeqError as error:
        return f"error: {error.message}"
    dump(found)
    return "ok"


def in_child(path: Path) -> str:
    """``ended N`` when the child died of a signal or an error that is not edgeq's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os.write(writing, outcome(path).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"ended {status}"


def main() -> None:
    source, count = Path(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mutant{source.suffix}"
        found = []
        for seed in range(count):
            path.write_bytes(mutated(source.read_bytes(), seed))
            found.append(in_child(path))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
