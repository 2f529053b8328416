"""TOML from a person's hand, parsed once into a frozen model, with errors that can be acted on."""

import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeVar

import pydantic
from pydantic import BaseModel

from edgeq.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)

# The last word of a key's name is its unit; said in every error about its value.
UNITS = {
    "ms": "milliseconds",
    "ns": "nanoseconds",
    "s": "seconds",
    "seconds": "seconds",
    "mib": "MiB",
    "mj": "millijoules",
    "mw": "milliwatts",
    "hz": "hertz",
    "mhz": "megahertz",
    "c": "degrees Celsius",
}
_SHOWN_CHARACTERS = 60
_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"^\s*(\[\[?)\s*({_PATH})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"^\s*({_PATH})\s*=")
_INLINE = re.compile(rf"[{{,]\s*({_PATH})\s*=")

Path = tuple[str | int, ...]


def parse(model_class: type[ModelT], text: str, origin: str) -> ModelT:
    """Read TOML into ``model_class``, strictly: ``"3"`` is no number and ``3.5`` no whole one.

    Args:
        model_class: A pydantic model; unknown keys are errors if it forbids extras.
        text: The TOML.
        origin: What the user calls the file; stands in front of every message.

    Raises:
        ConfigError: with the file, the line and the key of the first wrong thing; the hint names
            the nearest known key.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{origin}: not valid TOML: {_uncapitalised(str(error))}",
            hint="strings need quotes, and each key may stand once: https://toml.io",
        ) from error
    _refuse_what_json_lacks(tree, text, origin)
    try:
        # Python's strict mode refuses a list for a tuple; JSON's, which has only lists, does not.
        return model_class.model_validate_json(json.dumps(tree), strict=True)
    except pydantic.ValidationError as error:
        raise _config_error(model_class, error, text, origin) from error


def find_line(text: str, path: Sequence[str | int]) -> int | None:
    """Line, from 1, of the key at ``path``, or of the nearest table around it; None if none."""
    best: tuple[int, int] | None = None
    for number, place in _places(text):
        if _covers(place, path) and (best is None or len(place) > best[0]):
            best = (len(place), number)
    return best[1] if best else None


def _config_error(
    model_class: type[BaseModel], error: pydantic.ValidationError, text: str, origin: str
) -> ConfigError:
    problems = sorted(
        error.errors(include_url=False), key=lambda item: find_line(text, item["loc"]) or 1 << 30
    )
    first = problems[0]
    path = _named_path(first["loc"])
    message, hint = _explain(model_class, first["type"], first["msg"], path, first.get("input"))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ConfigError(f"{_where(text, origin, path)}: {message}{more}", hint=hint)


def _explain(
    model_class: type[BaseModel], kind: str, said: str, path: Path, value: object
) -> tuple[str, str]:
    """What is wrong at ``path``, and the mend."""
    name = _dotted(path)
    if kind == "extra_forbidden":
        return f"unknown key {name}", _nearest(model_class, path)
    if kind == "missing":
        return f"{name} is missing", f"add it: {path[-1]} = …"
    unit = _unit(str(path[-1])) if path else None
    expected = _uncapitalised(said)
    for prefix in ("input should be ", "value error, "):
        expected = expected.removeprefix(prefix)
    expected = expected.replace("tuple", "list").replace("an object", "a table")
    in_unit = f", in {unit}" if unit else ""
    if kind == "value_error":
        return f"{name}: {expected}", ""
    hint = ""
    if kind in ("int_type", "float_type") and isinstance(value, str):
        hint = "a number stands without quotes and unit" + (f"; it is{in_unit[1:]}" if unit else "")
    return f"{name} is {_shown(value)}, expected {expected}{in_unit}", hint


def _unit(key: str) -> str | None:
    """Of a key such as ``latency_p90_ms`` or ``seconds``."""
    return UNITS.get(key.rsplit("_", 1)[-1]) if "_" in key or key == "seconds" else None


def _nearest(model_class: type[BaseModel], path: Path) -> str:
    known = _keys_at(model_class, path[:-1])
    close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    if close:
        unit = _unit(close[0])
        return f"did you mean {close[0]}?" + (f" it is in {unit}" if unit else "")
    elsewhere = next((f"{_dotted(p)}" for p in _all_keys(model_class) if p[-1] == path[-1]), None)
    if elsewhere:
        return f"did you mean {elsewhere}?"
    return f"known keys here: {', '.join(known)}" if known else ""


def _keys_at(model_class: type[BaseModel], path: Path) -> list[str]:
    here: type[BaseModel] | None = model_class
    for step in path:
        if isinstance(step, int):
            continue
        if here is None or step not in here.model_fields:
            return []
        here = _model_in(here.model_fields[step].annotation)
    return sorted(here.model_fields) if here else []


def _all_keys(model_class: type[BaseModel], prefix: Path = ()) -> Iterator[Path]:
    for name, field in model_class.model_fields.items():
        yield (*prefix, name)
        if inner := _model_in(field.annotation):
            yield from _all_keys(inner, (*prefix, name))


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The pydantic model inside ``X``, ``X | None``, ``tuple[X, ...]``, ``Annotated[X, …]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, tuple, list, Annotated):
        return next((m for a in typing.get_args(annotation) if (m := _model_in(a))), None)
    return None


def _refuse_what_json_lacks(tree: object, text: str, origin: str, path: Path = ()) -> None:
    match tree:
        case dict():
            for key, value in tree.items():
                _refuse_what_json_lacks(value, text, origin, (*path, key))
        case list():
            for index, value in enumerate(tree):
                _refuse_what_json_lacks(value, text, origin, (*path, index))
        case float() if not math.isfinite(tree):
            raise ConfigError(
                f"{_where(text, origin, path)}: {_dotted(path)} is {tree}, expected a finite number"
            )
        case str() | bool() | int() | float():
            pass
        case _:
            raise ConfigError(
                f"{_where(text, origin, path)}: {_dotted(path)} is a date or time",
                hint="put it in quotes if it is meant as text",
            )


def _places(text: str) -> Iterator[tuple[int, Path]]:
    """Line and path of each table header and key; a multi-line value may be misread as keys."""
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = _split(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield number, table
        elif assignment := _ASSIGNMENT.match(line):
            key = (*table, *_split(assignment[1]))
            yield number, key
            for inline in _INLINE.finditer(line, assignment.end()):
                yield number, (*key, *_split(inline[1]))


def _split(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def _covers(place: Path, path: Sequence[str | int]) -> bool:
    return len(place) <= len(path) and tuple(path[: len(place)]) == place


def _named_path(location: tuple[str | int, ...]) -> Path:
    """Without the tags that pydantic adds for members of a union."""
    return tuple(
        part for part in location if isinstance(part, int) or re.fullmatch(r"[\w.-]+", part)
    )


def _where(text: str, origin: str, path: Path) -> str:
    line = find_line(text, path)
    return f"{origin}:{line}" if line else origin


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path) or "the file"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _uncapitalised(message: str) -> str:
    return message[:1].lower() + message[1:]
