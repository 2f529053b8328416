"""Runs in one SQLite file: reports as they were, and raw samples to reckon them from again."""

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgeq.errors import EdgeqError, HostError, UsageError

# "edgq" tells this file from other programs' databases:
# sqlite.org/pragma.html#pragma_application_id
APPLICATION_ID = 0x65646771
VERSION = 1
FILE_NAME = "runs.sqlite"
_BUSY_S = 30.0
_FREE = "free some space and repeat"
_ELSEWHERE = "set EDGEQ_HOME to a folder that you may write"
_NOT_WRITABLE = ("cannot write the store of runs {path}: {error}", _ELSEWHERE)
_HELD = (f"another program has held {{path}} for {_BUSY_S:.0f} s", "end it, then repeat")
# sqlite.org/rescode.html
_WORDS = {
    sqlite3.SQLITE_FULL: ("the disk is full: cannot write {path}", _FREE),
    sqlite3.SQLITE_IOERR: ("cannot read or write {path}: {error}", _FREE),
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_CONSTRAINT: ("{path} already has a run of that name", ""),
}
_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    report TEXT NOT NULL,
    raw_zlib BLOB NOT NULL,
    raw_bytes INTEGER NOT NULL,
    raw_sha256 TEXT NOT NULL,
    report_sha256 TEXT NOT NULL
)
"""


class SqliteStore:
    """Several programs may use one file at once; a run is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, run_id: str, report_json: str, raw: bytes) -> None:
        """Keep a run; it is on the disk when this returns.

        Raises:
            HostError: the disk is full, the file is damaged or not writable, or the id is taken.
        """
        row = (
            run_id,
            report_json,
            zlib.compress(raw),
            len(raw),
            _sha256(raw),
            _sha256(report_json),
        )
        with self._open(create=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")

    def load(self, run_id: str) -> tuple[str, bytes]:
        """Report and raw samples.

        ``run_id`` may be shortened to a beginning, or to its last part, if it stays unique.

        Raises:
            UsageError: there is none, or more than one.
            HostError: the file is damaged or cannot be read.
        """
        with self._open(create=False) as connection:
            name = self._whole_id(connection, run_id)
            row = connection.execute(
                "SELECT report, raw_zlib, raw_bytes, raw_sha256, report_sha256 FROM runs"
                " WHERE run_id = ?",
                (name,),
            ).fetchone()
        return self._checked(name, row)

    def list(self, limit: int) -> list[str]:
        """Reports, the last saved first, ``limit`` at most.

        Raises:
            HostError: the file is damaged or cannot be read.
        """
        with self._open(create=False) as connection:
            rows = connection.execute(
                "SELECT report FROM runs ORDER BY rowid DESC LIMIT ?", (max(0, limit),)
            ).fetchall()
        return [str(report) for (report,) in rows]

    def _checked(self, name: str, row: tuple[object, ...] | None) -> tuple[str, bytes]:
        """A row whose contents are those that were saved; a damaged file may hold anything."""
        match row:
            case (str(report), bytes(packed), int(size), str(raw_sha256), str(report_sha256)):
                try:
                    raw = zlib.decompress(packed)
                except zlib.error as error:
                    raise self._damaged(f"raw samples of run {name}: {error}") from error
                hashes = (_sha256(raw), _sha256(report))
                if len(raw) == size and hashes == (raw_sha256, report_sha256):
                    return report, raw
            case _:
                pass
        raise self._damaged(f"run {name} does not have the hash it was saved with")

    def _whole_id(self, connection: sqlite3.Connection, run_id: str) -> str:
        rows = connection.execute(
            "SELECT run_id FROM runs WHERE run_id = :id OR substr(run_id, 1, length(:id)) = :id"
            " OR substr(run_id, -length(:id) - 1) = '-' || :id"
            " ORDER BY run_id = :id DESC, run_id DESC LIMIT 6",
            {"id": run_id},
        ).fetchall()
        names = [name for (name,) in rows]
        if not run_id or not names:
            raise UsageError(f"there is no run {run_id!r}", hint="edgeq runs list shows them")
        if len(names) > 1 and names[0] != run_id:
            raise UsageError(f"{run_id!r} may be any of several runs", hint=", ".join(names[:5]))
        whole: str = names[0]
        return whole

    @contextmanager
    def _open(self, *, create: bool) -> Iterator[sqlite3.Connection]:
        """A connection to a good file; to an empty one in memory where there is none."""
        try:
            if not create and not self._path.exists():
                with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
                    connection.execute(_SCHEMA)
                    yield connection
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            ) as connection:
                self._prepare(connection)
                yield connection
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except OSError as error:
            raise HostError(
                f"cannot open the store of runs {self._path}: {error.strerror}"
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check whose file it is, and make the table in a new one."""
        if self._version(connection) == 0:
            connection.execute("BEGIN IMMEDIATE")
            # Another program may have made it in the meantime.
            if self._version(connection) == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
            self._use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")

    def _version(self, connection: sqlite3.Connection) -> int:
        """The schema's version; 0 for an empty file.

        Raises:
            HostError: it is another program's, or a newer edgeq's.
        """
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not version:
            return 0
        if application != APPLICATION_ID:
            raise HostError(
                f"{self._path} is another program's database",
                hint="set EDGEQ_HOME to a folder of edgeq's own",
            )
        if version > VERSION:
            raise HostError(
                f"{self._path} was written by a newer edgeq (version {version} of the store)",
                hint="update: pip install -U edgeq",
            )
        return int(version)

    @staticmethod
    def _use_wal(connection: sqlite3.Connection) -> None:
        """Readers then need not wait for a writer; kept in the file, so once is enough."""
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Another program has it open just now. The rollback journal is as safe, only slower.
            return

    def _explained(self, error: sqlite3.Error) -> EdgeqError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # Without a code it is the module's own: what the file holds is no text where text belongs.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, 0):
            return self._damaged(str(error))
        message, hint = _WORDS.get(code, ("cannot use the store of runs {path}: {error}", ""))
        return HostError(message.format(path=self._path, error=error), hint=hint)

    def _damaged(self, what: str) -> HostError:
        return HostError(
            f"the store of runs {self._path} is damaged: {what}",
            hint=f"nothing was changed; keep it and begin a new one: mv {self._path}"
            f" {self._path}.damaged",
        )


def make(path: Path) -> SqliteStore:
    """The store in ``path``; made when the first run is saved."""
    return SqliteStore(path)


def _sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
