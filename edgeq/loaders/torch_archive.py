"""PyTorch's files from outside: what kind one is, and whether it brings code; without PyTorch.

Nothing is unpickled. The formats: torch/csrc/jit/serialization (TorchScript, plain ``torch.save``)
and torch/export/pt2_archive/constants.py (``.pt2``).
"""

import io
import json
import pickletools
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.errors import ModelError

_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".ptl", ".ts", ".jit", ".torchscript"})
_PERHAPS = frozenset({".bin", ".ckpt", ".pkl", ".pickle"})
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # opcode PROTO, which begins every pickle since protocol 2
_OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch/serialization.py, MAGIC_NUMBER
_OLD_PICKLES = 4  # a number, a version, the system, and then the object
_MAX_MEMBERS = 100_000
_MAX_BYTES = 2 << 30
_MAX_JSON_BYTES = 256 << 20
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError,
    ValueError,
)  # fmt: skip
_EXPORT = (
    "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), or "
    "torch.jit.save(torch.jit.trace(model.eval(), example), 'model.pt')"
)
# An exported graph calls these; anything else that PyTorch finds by name may run code
# (torch.os.system is one): torch/_export/serde/serialize.py, deserialize_operator.
_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized_decomposed|torchao|torchvision)\.\w+(\.\w+)?"
    r"|_operator\.[a-z]+_?|math\.[a-z]+|torch\.sym_\w+|torch\._sym_\w+"
)
_TENSOR = re.compile(r"(weight|tensor)_\d+")
_TOUCHES_FILES = re.compile(r"\b(from_file|save|load)\b")
# Sizes are read with sympify, which evaluates Python.
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),.<>=&|~!]*")
_NAMES = frozenset(
    {
        "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt",
        "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv",
        "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt",
        "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "Max", "Min", "Eq", "Ne", "And", "Or",
        "Not", "Integer", "Add", "Mul", "Pow", "Rational", "True", "False", "oo", "int_oo", "zoo",
        "nan", "Piecewise", "Abs", "floor", "ceiling",
    }
)  # fmt: skip
# What sympy writes with quotes: Symbol('s77', positive=True, integer=True).
_QUOTED = re.compile(
    r"Symbol\('[A-Za-z]+\d*'(, [a-z]+=(True|False))*\)"
    r"|Float\('[-+0-9.e]+'(, (precision|dps)=\d+)?\)"
)
_SYMBOL = re.compile(r"[a-z]{1,3}\d+")
_WORD = re.compile(r"[A-Za-z_]\w*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z_]|__")

Json = dict[str, Any]


def kind_of(path: Path) -> str | None:
    """``torch-export`` or ``torchscript`` by contents; None: not PyTorch's.

    Raises:
        ModelError: it is PyTorch's, but holds no model that can be used, or is damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES | _PERHAPS or not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    if head.startswith(_PICKLE):
        if suffix in _PERHAPS and not head[2:].startswith(_OLD_MAGIC[: len(head) - 2]):
            return None
        raise _pickled(path, _pickled_names(path.read_bytes()))
    if suffix in _PERHAPS:
        return None
    raise ModelError(
        f"{path} is called {path.suffix}, but its contents are not",
        hint="was the download or the copy cut short?",
    )


def refuse_code(path: Path, kind: str) -> None:
    """Stop at a model that could run code or touch files when it is loaded or run.

    Raises:
        ModelError: it does, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch itself does not look at the checksums of weights
            if archive.testzip() is not None:
                raise _damaged(path)
            if kind == "torchscript":
                _refuse_script(path, archive)
            else:
                _refuse_export(path, archive)
    except _ZIP_ERRORS as error:
        raise _damaged(path) from error


def _kind_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = _names(path, archive)
            if _is_export(names):
                return "torch-export"
            if "constants.pkl" in names and any(name.startswith("code/") for name in names):
                return "torchscript"
            if any(name.startswith("data/aotinductor/") for name in names):
                raise ModelError(
                    f"{path} holds a program compiled for one machine, not a model",
                    hint=f"export it: {_EXPORT}",
                )
            if "data.pkl" in names:
                with archive.open(names["data.pkl"]) as member:
                    raise _pickled(path, _pickled_names(member.read(_MAX_JSON_BYTES)))
    except _ZIP_ERRORS as error:
        raise _damaged(path) from error
    if path.suffix.lower() in _PERHAPS:
        return None
    raise ModelError(
        f"{path} is a zip file, but holds no PyTorch model", hint=f"export it: {_EXPORT}"
    )


def _is_export(names: dict[str, str]) -> bool:
    models = [name for name in names if name.startswith("models/") and name.endswith(".json")]
    return bool(models) or "serialized_exported_program.json" in names


def _names(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Members by their names below the folder that PyTorch puts everything into."""
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS or sum(item.file_size for item in members) > _MAX_BYTES:
        raise ModelError(f"{path} unpacks to more than 2 GiB or 100,000 files")
    found = [item.filename for item in members]
    odd = next((item for item in members if _is_odd(item)), None)
    if odd is not None or len(set(found)) < len(found):
        raise ModelError(f"{path} holds {odd.filename if odd else 'a file'!r} twice, or as a link")
    roots = {name.split("/", 1)[0] for name in found if "/" in name}
    bare = "serialized_exported_program.json" in found or "archive_format" in found
    if len(roots) != 1 or bare:
        return {name: name for name in found}
    (root,) = roots
    return {name.removeprefix(f"{root}/"): name for name in found}


def _is_odd(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16) or ".." in member.filename.split("/")


def _pickled_names(data: bytes) -> list[str]:
    """What a pickle would import, without importing it."""
    found = []
    texts: list[str] = []
    stream = io.BytesIO(data)
    try:
        for _ in range(_OLD_PICKLES):
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    found.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    found.append(".".join(texts[-2:]))
                elif isinstance(argument, str):
                    texts = [*texts[-1:], argument]
    except (ValueError, EOFError, IndexError, UnicodeDecodeError):
        return found  # it ends before, or is cut short
    return found


def _pickled(path: Path, names: list[str]) -> ModelError:
    tensors = ("torch._utils.", "torch.", "collections.OrderedDict")
    classes = [name for name in names if not name.startswith(tensors) or ".nn." in name]
    if classes:
        what = f"a pickled object of class {classes[0]}, and loading a pickle runs code"
    else:
        what = "only weights (a state dict), not the model"
    return ModelError(f"{path} holds {what}", hint=f"where the model's code is: {_EXPORT}")


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"{path} is damaged: its parts are not those that its table of contents lists",
        hint="was the download or the copy cut short?",
    )


def _refuse_script(path: Path, archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        if "/code/" in f"/{name}" and name.endswith(".py"):
            text = archive.read(name).decode(errors="replace")
            calls = re.search(r"(?:torch|ops(?:\.\w+)+)\.(from_file|save|load)\(", text)
            if calls:
                _refuse(path, f"calls {calls[0]}…), which touches files")


def _refuse_export(path: Path, archive: zipfile.ZipFile) -> None:
    names = _names(path, archive)
    for name, member in names.items():
        if name.startswith("data/aotinductor/"):
            _refuse(path, "holds a compiled program")
        if name.endswith(".json") and not name.startswith("extra/"):
            for key, value in _items(_json(path, archive, member)):
                _refuse_item(path, key, value)


def _json(path: Path, archive: zipfile.ZipFile, member: str) -> object:
    if archive.getinfo(member).file_size > _MAX_JSON_BYTES:
        raise ModelError(f"{member} in {path} is too large")
    try:
        tree: object = json.loads(archive.read(member))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {member} is not JSON") from error
    return tree


def _items(tree: object) -> Iterator[tuple[str, object]]:
    """All keys of all objects in it, with their values."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _refuse_item(path: Path, key: str, value: object) -> None:
    match key:
        case "target" if isinstance(value, str) and value:
            if not _TARGETS.fullmatch(value) or _TOUCHES_FILES.search(value):
                _refuse(path, f"calls {value[:80]!r}, which may run code or touch files")
        case "expr_str" if isinstance(value, str) and not _is_safe(value):
            _refuse(path, f"has a size {value[:80]!r}, which may run code")
        case "use_pickle" if value is True:
            _refuse(path, "keeps weights as a pickle")
        case "path_name" if not (isinstance(value, str) and _TENSOR.fullmatch(value)):
            _refuse(path, f"holds a pickled object ({str(value)[:80]})")


def _is_safe(expression: str) -> bool:
    expression = _QUOTED.sub("s0", expression)
    words = _WORD.findall(expression)
    known = all(word in _NAMES or _SYMBOL.fullmatch(word) for word in words)
    return bool(known and _EXPRESSION.fullmatch(expression) and not _ATTRIBUTE.search(expression))


def _refuse(path: Path, why: str) -> None:
    raise ModelError(
        f"{path} {why}",
        hint="if you trust its maker: --trust-model loads it, in a child process",
    )
