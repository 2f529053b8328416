"""Files and releases on a phone, with its shell's own commands.

    /data/local/tmp/edgeq/
      bin/<sha256>/benchmark_model
      models/<name>/releases/<version>-<hash>/    as on other devices
      models/<name>/state                         current=…, previous=…: one rename switches both
      lock                                        a link whose target names the holder

Nothing here rests on links to folders or on ``mv -T``, which older phones lack.
"""

import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence

from edgeq.errors import AgentError, BusyError, DeviceError, LinkLostError, SpaceError
from edgeq.native.phone import FOLDER
from edgeq.ports import Channel, Completed, Link, OnProgress
from edgeq.wire import Releases

_LIMIT_S = 60.0
_PIECE_BYTES = 1 << 18
_SLOWEST_BYTES_PER_S = 100_000
_HASH_STATUS = 90
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_LOCK = r"""
umask 077
mkdir -p "$1" || exit 91
l=$1/lock; read -r b </proc/sys/kernel/random/boot_id
if ! ln -s "$$ $b $2" "$l" 2>/dev/null; then
  t=$(readlink "$l") || { ln -s x "$l"; exit 91; }
  p=${t%% *}; r=${t#* }
  if [ "${r%% *}" = "$b" ] && [ -d "/proc/$p" ]; then echo "busy ${r#* }"; exit 0; fi
  mv "$l" "$l.$$" && rm -f "$l.$$"
  ln -s "$$ $b $2" "$l" || { echo "busy someone who was faster"; exit 0; }
fi
rm -rf "$1"/models/*/.stage-* "$1"/scratch "$1"/bin/*/*.part
echo held
cat >/dev/null
rm -rf "$1/scratch" "$l"
"""
_PUT = rf"""
umask 077
mkdir -p "${{1%/*}}" && head -c "$2" > "$1.part" || {{ rm -f "$1.part"; exit 91; }}
h=$(sha256sum "$1.part")
[ "${{h%% *}}" = "$3" ] || {{ echo "$h" >&2; rm -f "$1.part"; exit {_HASH_STATUS}; }}
chmod "$4" "$1.part" && mv -f "$1.part" "$1"
"""
_COMMIT = r"""
cd "$1/models/$2" || exit 91
c=; p=
[ -e state ] && while IFS='=' read -r k v; do
  case $k in current) c=$v;; previous) p=$v;; esac; done < state
if [ "$c" != "$3" ]; then p=$c; c=$3; fi
printf 'current=%s\nprevious=%s\n' "$c" "$p" > state.new && sync && mv -f state.new state || {
  rm -f state.new; exit 91; }
sync
for r in releases/*; do
  case ${r#releases/} in "$c"|"$p") ;; *) rm -rf "$r";; esac
done
"""
_SWAP = r"""
cd "$1/models/$2" || exit 91
[ -d "releases/$4" ] || exit 92
printf 'current=%s\nprevious=%s\n' "$4" "$3" > state.new && sync && mv -f state.new state || {
  rm -f state.new; exit 91; }
sync
"""
_LIST = r"""
cd "$1/models" 2>/dev/null || exit 0
for m in *; do
  [ -d "$m/releases" ] || continue
  echo "model=$m"
  [ -e "$m/state" ] && cat "$m/state"
  for r in "$m"/releases/*; do [ -d "$r" ] && echo "release=${r##*/}"; done
done
exit 0
"""
_SUMS = (
    'cd "$1" 2>/dev/null || exit 0; shift; for f; do [ -f "$f" ] && sha256sum "$f"; done; exit 0'
)
_SEAL = r"""
cd "$1" || exit 91
mkdir -p releases && rm -rf "releases/$3" && sync && mv "$2" "releases/$3" && sync
"""


class Depot:
    """A phone's files. Not to be used from several threads at once."""

    def __init__(self, link: Link, where: str) -> None:
        self._link = link
        self._where = where

    @contextlib.contextmanager
    def held(self, holder: str) -> Iterator[None]:
        """Take the phone for this session; it is given back when the connection ends, too.

        Raises:
            BusyError: someone else has it.
            SpaceError: there is no room for the lock.
        """
        safe = "".join(c if c.isprintable() else "?" for c in holder)[:200]
        channel = self._link.open(["sh", "-c", _LOCK, "sh", FOLDER, safe])
        try:
            said = _line(channel)
            if said.startswith("busy"):
                raise BusyError(
                    f"{self._where} is busy: {said.removeprefix('busy').strip()}",
                    hint="wait until that is done",
                )
            if said != "held":
                self._require(channel.close(), "cannot be locked")
                raise DeviceError(f"{self._where} cannot be locked")
            yield
        finally:
            channel.close()

    def put(
        self, path: str, data: bytes, *, mode: str = "600", on_progress: OnProgress | None = None
    ) -> int:
        """Put a file under edgeq's folder, whole or not at all; bytes sent, 0 if it was there.

        Raises:
            SpaceError: /data is full.
            DeviceError: it arrived damaged, or cannot be written.
            LinkLostError: the connection broke.
        """
        digest = hashlib.sha256(data).hexdigest()
        folder, _, name = path.rpartition("/")
        if self.sums(folder, [name]) == {name: digest}:
            return 0
        words = [f"{FOLDER}/{path}", str(len(data)), digest, mode]
        channel = self._link.open(["sh", "-c", _PUT, "sh", *words])
        try:
            self._send(channel, data, on_progress)
            while channel.receive(_LIMIT_S + len(data) / _SLOWEST_BYTES_PER_S):
                pass
        except TimeoutError as error:
            raise LinkLostError(f"{self._where} has not taken {name} in time") from error
        finally:
            done = channel.close()
        if done.status == _HASH_STATUS:
            raise DeviceError(f"{name} arrived damaged on {self._where}", hint="try again")
        self._require(done, f"cannot write {name}")
        return len(data)

    def sums(self, folder: str, names: Sequence[str]) -> dict[str, str]:
        """SHA-256 of those files that are there."""
        done = self._run(_SUMS, f"{FOLDER}/{folder}", *names, limit_s=600)
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        found = (re.fullmatch(r"\\?([0-9a-f]{64}) [ *](.+)", line) for line in lines)
        return {match[2]: match[1] for match in found if match}

    def sums_of(self, path: str) -> str | None:
        """SHA-256 of a file anywhere; None where it is not there, or cannot be read."""
        done = self._run('[ -f "$1" ] && sha256sum "$1"', path, limit_s=600)
        found = re.match(rb"\\?([0-9a-f]{64}) ", done.stdout)
        return found[1].decode() if done.status == 0 and found else None

    def install(
        self, model: str, release: str, contents: Mapping[str, bytes], on_progress: OnProgress
    ) -> int:
        """Bring a release there without switching to it; bytes sent, 0 if it was there.

        Raises:
            SpaceError: /data is full; nothing of it stays there.
        """
        for name in (model, release, *contents):
            if not _NAME.fullmatch(name):
                raise DeviceError(f"{name!r} cannot be a name on {self._where}")
        home, wanted = f"models/{model}", _digests(contents)
        if self.sums(f"{home}/releases/{release}", list(contents)) == wanted:
            return 0
        stage = f".stage-{secrets.token_hex(8)}"
        try:
            sent = sum(
                self.put(f"{home}/{stage}/{name}", data, on_progress=on_progress)
                for name, data in contents.items()
            )
            done = self._run(_SEAL, f"{FOLDER}/{home}", stage, release, limit_s=600)
            self._require(done, f"cannot install {release}")
        except DeviceError:
            self.remove(f"{home}/{stage}")
            raise
        return sent

    def commit(self, model: str, release: str) -> None:
        """Make it the active one; the one before is kept, older ones go.

        Raises:
            SpaceError: /data is full; nothing changed.
        """
        done = self._run(_COMMIT, FOLDER, model, release, limit_s=600)
        self._require(done, f"cannot activate {release}")

    def discard(self, model: str, release: str) -> None:
        """Remove a release that is neither active nor the one before."""
        known = next((one for one in self.releases() if one.model == model), None)
        if known is None or release not in (known.current, known.previous):
            self.remove(f"models/{model}/releases/{release}")

    def rollback(self, model: str) -> Releases:
        """Active and previous release change places.

        Raises:
            DeviceError: there is nothing to go back to.
        """
        known = next((one for one in self.releases() if one.model == model), None)
        if known is None or not known.previous or known.previous not in known.releases:
            raise DeviceError(f"{model} on {self._where} has no previous release to go back to")
        done = self._run(_SWAP, FOLDER, model, known.current, known.previous)
        self._require(done, f"cannot go back to {known.previous}")
        return Releases(
            model=model,
            current=known.previous,
            previous=known.current,
            releases=known.releases,
        )

    def releases(self) -> tuple[Releases, ...]:
        """What is installed."""
        done = self._require(self._run(_LIST, FOLDER), "cannot list releases")
        found: list[Releases] = []
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            if key == "model":
                found.append(Releases(model=value))
            elif found and key in ("current", "previous"):
                last = found.pop()
                current = value if key == "current" else last.current
                previous = value if key == "previous" else last.previous
                found.append(Releases(last.model, current, previous, last.releases))
            elif found and key == "release":
                last = found.pop()
                releases = (*last.releases, value)
                found.append(Releases(last.model, last.current, last.previous, releases))
        return tuple(found)

    def read(self, path: str, most_bytes: int) -> bytes | None:
        """A file's bytes; None where it is not there.

        Raises:
            AgentError: it is larger.
        """
        done = self._run('[ -f "$1" ] || exit 92; head -c "$2" "$1"', path, str(most_bytes + 1))
        if done.status:
            return None
        if len(done.stdout) > most_bytes:
            raise AgentError(f"{path} on {self._where} has more than {most_bytes} bytes")
        return done.stdout

    def remove(self, path: str) -> None:
        """Remove a file or folder under edgeq's folder; it need not be there."""
        with contextlib.suppress(LinkLostError):
            self._run('rm -rf "$1"', f"{FOLDER}/{path}")

    def _send(self, channel: Channel, data: bytes, on_progress: OnProgress | None) -> None:
        with contextlib.suppress(BrokenPipeError):  # its status says why
            view = memoryview(data)
            for start in range(0, len(data), _PIECE_BYTES):
                channel.send(view[start : start + _PIECE_BYTES])
                if on_progress:
                    on_progress("push", min(start + _PIECE_BYTES, len(data)), len(data))

    def _run(self, script: str, *words: str, limit_s: float = _LIMIT_S) -> Completed:
        return self._link.run(["sh", "-c", script, "sh", *words], timeout_s=limit_s)

    def _require(self, done: Completed, what: str) -> Completed:
        """The command succeeded.

        Raises:
            SpaceError: there was no room.
            DeviceError: something else.
        """
        if done.status == 0:
            return done
        said = done.stderr.decode("utf-8", "replace").strip()
        if re.search(r"[Nn]o space left|quota|ENOSPC", said):
            raise SpaceError(
                f"/data of {self._where} is full: {what}",
                hint=f"make room there; edgeq's own files: adb shell du -h {FOLDER}",
            )
        last = said.splitlines()[-1][:200] if said else f"status {done.status}"
        raise DeviceError(f"{self._where}: {what}: {last}")


def _digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def _line(channel: Channel) -> str:
    """The first line of a command's output; what came of it when the output ends before."""
    said = b""
    while b"\n" not in said:
        try:
            piece = channel.receive(_LIMIT_S)
        except TimeoutError as error:
            raise LinkLostError("the phone does not answer") from error
        if not piece:
            break
        said += piece
    return said.split(b"\n")[0].decode("utf-8", "replace").strip()
