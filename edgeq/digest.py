"""SHA-256 of files and folders."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def of_file(path: Path) -> str:
    """Of the file's contents, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_files(folder: Path, files: Iterable[Path]) -> str:
    """Of names below ``folder`` and contents, in the order given, as hex."""
    total = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix().encode(errors="surrogateescape")
        total.update(len(name).to_bytes(8, "big") + name)
        total.update(bytes.fromhex(of_file(path)))
    return total.hexdigest()
