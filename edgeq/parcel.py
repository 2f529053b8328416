"""A device's runtime as one zip: wheels checked, stripped of what inference does not need, merged.

The same wheels give the same bytes.
"""

import re
import secrets
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from edgeq.errors import FetchError

# Counts up when other files are left out: it is part of a parcel's name.
RULES = "1"
MAX_BYTES = 2 << 30
MAX_FILES = 50_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT_FOLDERS = frozenset({"tests", "__pycache__", "include"})
_LEFT_OUT_ENDINGS = (".pyi", ".h", ".a", ".pxd", ".pyx", ".pyc", ".hpp", ".c", ".cc", ".lib")
# LiteRT's compiler for other companies' chips, its command-line tools and a GPU accelerator for
# browsers' WebGPU: 17 of 42 MB that the interpreter on a CPU does not load.
_LEFT_OUT_PATHS = (
    "ai_edge_litert/aot/",
    "ai_edge_litert/tools/",
    "ai_edge_litert/vendors/",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    # ONNX Runtime's library for C programs, all of which its Python module holds once more, and its
    # quantizer, converters and examples: 29 of 62 MB.
    "onnxruntime/capi/libonnxruntime.so.",
    "onnxruntime/backend/",
    "onnxruntime/datasets/",
    "onnxruntime/quantization/",
    "onnxruntime/tools/",
    "onnxruntime/transformers/",
    "numpy/_pyinstaller/",
    "numpy/random/_examples/",
)
# Of a wheel's metadata: what importlib.metadata reads, and the licences, which go with every copy.
_KEPT_METADATA = re.compile(
    r"METADATA$|(^|/)(licen[cs]es?/|licen[cs]e|copying|notice)", re.IGNORECASE
)
_DATA = re.compile(r"[^/]+\.data/([^/]+)/(.+)")
_INFO = re.compile(r"[^/]+\.dist-info/(.+)")
_GLIBC = re.compile(rb"\0GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?=\0)")


def glibc_needed(wheel: Path) -> tuple[int, int]:
    """The newest symbol version that the wheel's libraries ask glibc for: tags may say less.

    Raises:
        FetchError: the wheel is damaged.
    """
    needed = (0, 0)
    for info, data in _contents(wheel):
        if ".so" in PurePosixPath(info.filename).name:
            versions = {(int(major), int(minor)) for major, minor in _GLIBC.findall(data)}
            needed = max(needed, *versions) if versions else needed
    return needed


def build(wheels: Sequence[Path], target: Path) -> None:
    """Write the zip.

    Raises:
        FetchError: a wheel is damaged or holds what a wheel must not.
    """
    members: dict[str, tuple[bytes, int]] = {}
    for wheel in wheels:
        for info, data in _contents(wheel):
            name = _place(info.filename)
            if name is None:
                continue
            if name in members:
                raise _bad(wheel, f"{name} stands in another wheel too")
            members[name] = (data, _mode(info))
    # a name of its own: two deploys may make the same parcel at the same time
    fresh = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, (data, mode) in sorted(members.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, data, compresslevel=6)
    fresh.replace(target)


def unpacked_bytes(archive: Path) -> int:
    """What the zip takes on a device."""
    with zipfile.ZipFile(archive) as opened:
        return sum(info.file_size for info in opened.infolist())


def _contents(wheel: Path) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
    """Files of a wheel whose names, kinds and sizes were checked before."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = archive.infolist()
            _check(wheel, infos)
            for info in infos:
                if not info.is_dir():
                    yield info, archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise _bad(wheel, str(error)) from error


def _check(wheel: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
        raise _bad(wheel, "it unpacks to too much")
    seen: set[str] = set()
    for info in infos:
        name = info.filename
        parts = name.rstrip("/").split("/")
        # zipfile cuts a name at NUL: compare with what stands there.
        if info.orig_filename != name or "\\" in name or any(p in {"", ".", ".."} for p in parts):
            raise _bad(wheel, f"the name {name!r}")
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise _bad(wheel, f"{name!r} is no plain file")
        if name in seen:
            raise _bad(wheel, f"{name!r} stands in it twice")
        seen.add(name)


def _place(name: str) -> str | None:
    """Where a wheel's file goes in the runtime's folder (PEP 427); None: it is left out."""
    if data := _DATA.fullmatch(name):
        if data[1] not in {"purelib", "platlib"}:
            return None
        name = data[2]
    if info := _INFO.fullmatch(name):
        return name if _KEPT_METADATA.search(info[1]) else None
    path = PurePosixPath(name)
    if _LEFT_OUT_FOLDERS & set(path.parts[:-1]) or name.endswith(_LEFT_OUT_ENDINGS):
        return None
    return None if name.startswith(_LEFT_OUT_PATHS) else name


def _mode(info: zipfile.ZipInfo) -> int:
    return 0o755 if (info.external_attr >> 16) & 0o111 else 0o644


def _bad(wheel: Path, what: str) -> FetchError:
    return FetchError(
        f"{wheel.name} is not a good wheel: {what}",
        hint=f"delete it, it is fetched again: rm {wheel}",
    )
