"""A profile as TOML with a comment behind each value that says where it came from."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_COLUMN = 39  # where comments begin in the profiles that come with edgeq


def write(values: Mapping[str, Any], notes: Mapping[str, str], head: Sequence[str]) -> str:
    """The file's text; values that are tables become sections.

    Args:
        values: Text, numbers, truth, lists of these, and one level of tables.
        notes: By ``section.key``.
        head: Lines of the comment on top.
    """
    lines = [f"# {_one_line(line)}".rstrip() for line in head]
    lines += [_line(key, value, "") for key, value in values.items() if not _is_table(value)]
    for section, table in values.items():
        if _is_table(table):
            lines += ["", _noted(f"[{section}]", notes.get(section, ""))]
            lines += [_line(key, v, notes.get(f"{section}.{key}", "")) for key, v in table.items()]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _line(key: str, value: object, note: str) -> str:
    return _noted(f"{key} = {_value(value)}", note)


def _noted(text: str, note: str) -> str:
    if not note:
        return text
    padded = text.ljust(_COLUMN - 1) + " " if len(text) < _COLUMN else text + "   "
    return f"{padded}# {_one_line(note)}"


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, str):
        # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
