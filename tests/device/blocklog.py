"""A disk whose every write is on record: what a power cut at any moment leaves can be rebuilt.

QEMU's ``blklogwrites`` writes the records, in the format of the kernel's dm-log-writes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SECTOR = 512
_MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_FLUSH, _DISCARD = 1, 4


@dataclass(frozen=True, kw_only=True)
class Change:
    """One request that the disk carried out; ``data`` empty: a flush."""

    offset: int
    data: bytes


def options(disk: Path, log: Path) -> list[str]:
    """QEMU's words for a second disk (/dev/vdb) with a log."""
    files = f"file.driver=file,file.filename={disk},log.driver=file,log.filename={log}"
    return [
        "-blockdev", f"driver=blklogwrites,node-name=logged,{files}",
        "-device", "virtio-blk-pci,drive=logged,write-cache=on",
    ]  # fmt: skip


def changes(log: Path) -> list[Change]:
    """All that the log has so far; the machine is to stand still meanwhile."""
    return list(_read(log.read_bytes()))


def _read(data: bytes) -> Iterator[Change]:
    magic, version, _, sector = _SUPER.unpack_from(data)
    assert (magic, version, sector) == (_MAGIC, 1, _SECTOR), "not a log of writes"
    at = _SECTOR
    while at + _SECTOR <= len(data):
        start, count, flags, _ = _ENTRY.unpack_from(data, at)
        at += _SECTOR
        if flags & _DISCARD:
            yield Change(offset=start * _SECTOR, data=bytes(count * _SECTOR))
            continue
        body = data[at : at + count * _SECTOR]
        at += count * _SECTOR
        if not flags & _FLUSH or body:
            yield Change(offset=start * _SECTOR, data=body)
        else:
            yield Change(offset=0, data=b"")
