"""Files in and out: Put with Data, Get, Exists.

A file arrives as ``<path>.part-<first 16 digits of its SHA-256>``, so that another content never
resumes it, and is renamed once size, hash and disk are sure. When the link dies the part stays for
the next try; when the hash is wrong or the disk is full it is removed. After a ``Failed`` in the
middle of a payload the agent reads the rest of that payload and throws it away, so the host may
send all of it and then read the answer; the session goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import queue
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from edgeq import wire
from edgeq.agent.durable import Disk
from edgeq.agent.layout import free_bytes
from edgeq.agent.ports import MIB, SPACE_ERRNOS, Digest, FailureError, from_os_error
from edgeq.agent.talk import PIECE_BYTES, Talk

PART_MARK = ".part-"
_WRITEBACK_BYTES = 16 << 20
_FROM_THE_START = _TO_THE_END = ctypes.c_int64(0)
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
_RING = 3  # pieces between the reader and the hasher


@dataclass(frozen=True)
class Stamp:
    """A file's identity while nobody touches it; what was hashed need not be hashed again."""

    device: int
    inode: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int) -> Stamp:
        status = os.fstat(descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


@dataclass(frozen=True)
class Upload:
    """A file on its way in; ``have_bytes`` of it are in ``part``, their hash is ``prefix``."""

    path: Path
    part: Path
    size_bytes: int
    sha256: str
    have_bytes: int
    prefix: Digest
    stamp: Stamp | None


def begin(path: Path, request: wire.Put, disk: Disk) -> Upload | None:
    """Look for an earlier try, and for room; None when the file is there already.

    Raises:
        FailureError: space, refused.
    """
    disk.mkdir(path.parent)
    if is_whole(path, request.size_bytes, request.sha256):
        return None
    part = path.with_name(path.name + PART_MARK + request.sha256[:16])
    prefix: Digest = hashlib.sha256()
    stamp = None
    if part.is_symlink() or (part.exists() and part.stat().st_size > request.size_bytes):
        disk.unlink(part)
    if part.exists():
        prefix, stamp = _hash_file(part)
    have_bytes = 0 if stamp is None else stamp.size_bytes
    require_space(path.parent, request.size_bytes - have_bytes, leftover=part)
    return Upload(path, part, request.size_bytes, request.sha256, have_bytes, prefix, stamp)


def receive(upload: Upload, data: wire.Data, talk: Talk, disk: Disk) -> Stamp:
    """Take the payload into the part, check it, and rename it into place.

    Raises:
        FailureError: refused, busy; hash or space, then the part is gone.
        HostGoneError: the link died; the part is kept and on the disk.
        OSError: the disk failed; the part is gone.
    """
    if data.offset_bytes not in {0, upload.have_bytes}:
        raise FailureError("refused", f"data for {data.offset_bytes} bytes in")
    if data.offset_bytes + data.payload_bytes != upload.size_bytes:
        raise FailureError("hash", f"{upload.path.name}: not {upload.size_bytes} bytes")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(str(upload.part), flags, 0o600)
    try:
        _claim(descriptor, upload, data.offset_bytes)
    except FailureError:
        os.close(descriptor)
        raise
    try:
        digest = _fill(descriptor, upload, data.offset_bytes, talk, disk)
        if digest != upload.sha256:
            disk.unlink(upload.part)
            raise FailureError("hash", f"{upload.path.name}: SHA-256 is {digest}")
        disk.rename(upload.part, upload.path)
        return Stamp.of(descriptor)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            upload.part.unlink()
        if error.errno not in SPACE_ERRNOS:
            raise
        require_space(upload.path.parent, upload.size_bytes)
        raise from_os_error(error) from error  # a quota: there is room, but not for this user
    finally:
        os.close(descriptor)


def _claim(descriptor: int, upload: Upload, offset_bytes: int) -> None:
    """Make sure that no other session writes the same part, or has since it was hashed.

    Raises:
        FailureError: busy.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its former owner may have renamed it between the opening and the lock.
        mine = os.fstat(descriptor).st_ino == upload.part.stat().st_ino
        mine = mine and (not offset_bytes or Stamp.of(descriptor) == upload.stamp)
    except (BlockingIOError, FileNotFoundError):
        mine = False
    if not mine:
        raise FailureError("busy", f"another session is sending {upload.path.name}")


def _fill(descriptor: int, upload: Upload, offset_bytes: int, talk: Talk, disk: Disk) -> str:
    """Write the payload from ``offset_bytes`` on and sync; gives the whole file's SHA-256."""
    os.ftruncate(descriptor, offset_bytes)
    os.lseek(descriptor, offset_bytes, os.SEEK_SET)
    hasher = _Hasher(upload.prefix if offset_bytes else hashlib.sha256())
    writeback = _Writeback(descriptor)
    try:
        while talk.payload_left:
            piece = hasher.next_piece()
            filled = piece[: talk.read_into(piece)]
            hasher.feed(filled)
            disk.write(descriptor, filled)
            writeback.wrote(len(filled))
    finally:
        writeback.stop()
        digest = hasher.finish()
        disk.sync(descriptor)
    return digest


def send(path: Path, talk: Talk) -> None:
    """Answer ``Get``.

    Raises:
        FailureError: missing.
        HostGoneError: the link died.
    """
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise FailureError("missing", f"{path}: not there") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FailureError("refused", f"{path}: not a regular file")
        talk.send_file(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def is_whole(path: Path, size_bytes: int, sha256: str) -> bool:
    """Is the file there, regular and of this content?"""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes:
        return False
    return _hash_file(path)[0].hexdigest() == sha256


def hash_descriptor(descriptor: int, size_bytes: int) -> Digest:
    """The SHA-256 of an open file's first bytes, or all if there are fewer."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(PIECE_BYTES))
    offset = 0
    while offset < size_bytes:
        count = os.preadv(descriptor, [piece[: size_bytes - offset]], offset)
        if not count:
            break
        digest.update(piece[:count])
        offset += count
    return digest


def require_space(folder: Path, needed_bytes: int, leftover: Path | None = None) -> None:
    """Is there room?

    Raises:
        FailureError: space; ``leftover`` is removed first.
    """
    free = free_bytes(folder)
    if needed_bytes <= free:
        return
    if leftover is not None and leftover.exists():
        leftover.unlink()
    message = f"{free / MIB:.1f} MiB free, {needed_bytes / MIB:.1f} MiB needed"
    raise FailureError("space", message)


def _hash_file(path: Path) -> tuple[Digest, Stamp]:
    """The hash of a file, and its stamp before: if that is still good, so is the hash."""
    descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        stamp = Stamp.of(descriptor)
        return hash_descriptor(descriptor, stamp.size_bytes), stamp
    finally:
        os.close(descriptor)


class _Hasher:
    """SHA-256 in a thread, beside reading and writing; hashlib lets go of the GIL meanwhile."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._full: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._empty: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(_RING):
            self._empty.put(memoryview(bytearray(PIECE_BYTES)))
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def next_piece(self) -> memoryview:
        """A free buffer. After ``feed`` its bytes stay as they are until the next call of this."""
        return self._empty.get()

    def feed(self, piece: memoryview) -> None:
        self._full.put(piece)

    def finish(self) -> str:
        self._full.put(None)
        self._thread.join()
        return self._digest.hexdigest()

    def _work(self) -> None:
        while True:
            piece = self._full.get()
            if piece is None:
                return
            self._digest.update(piece)
            self._empty.put(memoryview(piece.obj))


class _Writeback:
    """Starts writing to the disk every 16 MiB, so that the sync at the end has little left."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = 0
        self._due: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def wrote(self, count: int) -> None:
        self._bytes += count
        if self._bytes < _WRITEBACK_BYTES:
            return
        self._bytes = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        if self._due.empty():
            self._due.put(True)

    def stop(self) -> None:
        if self._thread is not None:
            self._due.put(False)
            self._thread.join()

    def _work(self) -> None:
        write_out = getattr(ctypes.CDLL(None), "sync_file_range", None)
        while self._due.get():
            # An error needs no answer here: the sync at the end meets the same one and reports it.
            if write_out is not None:
                write_out(self._descriptor, _FROM_THE_START, _TO_THE_END, _SYNC_FILE_RANGE_WRITE)
            else:
                with contextlib.suppress(OSError):
                    os.fdatasync(self._descriptor)
