"""The agent as one file: ``AGENT.pyz``, which any Python 3.8 or newer runs."""

import ast
import io
import json
import zipfile
import zlib
from importlib import resources
from importlib.resources.abc import Traversable

_START = "import sys\n\nfrom edgeq.agent.__main__ import main\n\nraise SystemExit(main(sys.argv))\n"
_EXAMINE, _CHECKUP = "examine.py", "checkup.py"
_SOLID, _PIECE = "solid.py", "agent.z"
# Piped to a Python, never run from the archive.
_ALONE = frozenset({_EXAMINE, _CHECKUP})
_FIRST_LINE = b"#!/usr/bin/env python3\n"
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef)
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def agent_archive() -> bytes:
    """The archive's bytes: the same for the same sources, wherever they are installed."""
    package = resources.files("edgeq")
    own = [package / "agent" / _SOLID, package / "__init__.py"]
    members = {
        "__main__.py": _START.encode(),
        "edgeq/__init__.py": b"".join(_bare(file.read_bytes()) for file in own),
        _PIECE: zlib.compress(json.dumps(agent_sources(), sort_keys=True).encode(), 9),
    }
    buffer = io.BytesIO()
    buffer.write(_FIRST_LINE)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(_entry(name), data, compresslevel=9)
    return buffer.getvalue()


def agent_sources() -> dict[str, str]:
    """What the archive imports from, by path; all in one piece, see ``agent/solid.py``."""
    package = resources.files("edgeq")
    members = _sources(package / "agent", "edgeq/agent/")
    members["edgeq/wire.py"] = _bare((package / "wire.py").read_bytes())
    return {name: data.decode() for name, data in sorted(members.items())}


def examine_script(*, quick: bool = False, only_this: bool = False) -> str:
    """The script that looks at a device before anything is sent there; it stands alone.

    ``quick``: modules are looked for, not imported, which saves a second or more. ``only_this``:
    no other Python is asked than the one that runs it.
    """
    text = (resources.files("edgeq") / "agent" / _EXAMINE).read_text("utf-8")
    for switch, wanted in (("QUICK", quick), ("ONLY_THIS", only_this)):
        if wanted:
            text = text.replace(f"\n{switch} = False\n", f"\n{switch} = True\n")
    return text


def checkup_script() -> str:
    """The script that tells how a device is just now; it stands alone."""
    return (resources.files("edgeq") / "agent" / _CHECKUP).read_text("utf-8")


def _sources(folder: Traversable, prefix: str) -> dict[str, bytes]:
    members = {}
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            members.update(_sources(entry, f"{prefix}{entry.name}/"))
        elif entry.name.endswith(".py") and entry.name not in _ALONE:
            members[prefix + entry.name] = _bare(entry.read_bytes())
    return members


def _bare(source: bytes) -> bytes:
    """Without docstrings and lines of comment, a third of it; statements stay on their lines."""
    lines = source.splitlines(keepends=True)
    kept: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False):
            text = node.body[0]
            first, last = text.lineno - 1, text.end_lineno or text.lineno
            lines[first:last] = [b" " * text.col_offset + b'""\n', *[b"\n"] * (last - first - 1)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            kept.update(range(node.lineno - 1, node.end_lineno or node.lineno))
    bare = (
        line if number in kept or not line.lstrip().startswith(b"#") else b"\n"
        for number, line in enumerate(lines)
    )
    return b"".join(bare)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, so that building on another system gives the same bytes
    return entry
