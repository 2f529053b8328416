import pytest
from pydantic import BaseModel, ConfigDict

from edgeq.core import strict
from edgeq.core.profile import Profile
from edgeq.core.strict import find_line
from edgeq.errors import ConfigError

HEAD = 'description = "x"\n'


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        strict.parse(Profile, text, "p.toml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "[machine]\nmemory_min_mb = 4\n",
            "p.toml:3: unknown key machine.memory_min_mb",
            "did you mean memory_min_mib? it is in MiB",
        ),
        ("cores = 4\n", "p.toml:2: unknown key cores", "did you mean machine.cores?"),
        ("run = { rns = 3 }\n", "p.toml:2: unknown key run.rns", "did you mean runs?"),
        ("zzz = 1\n", "p.toml:2: unknown key zzz", "known keys here: access, budgets,"),
    ],
)
def test_an_unknown_key_names_its_line_and_the_nearest_known_one(text, message, hint):
    error = refused(HEAD + text)
    assert error.message.startswith(message)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[budgets]\nlatency_p90_ms = "30 ms"\n',
            'p.toml:3: budgets.latency_p90_ms is "30 ms", expected a valid number, in milliseconds',
        ),
        ("[run]\nruns = 1.5\n", "p.toml:3: run.runs is 1.5, expected a valid integer"),
        ("[run]\nruns = true\n", "p.toml:3: run.runs is true, expected a valid integer"),
        (
            '[conversion]\nprecision = "int9"\n',
            "p.toml:3: conversion.precision is \"int9\", expected 'int8', 'int8-dynamic', ",
        ),
        ("[access]\nport = 70000\n", "p.toml:3: access.port is 70000, expected less than"),
        ("machine = 3\n", "p.toml:2: machine is 3, expected a table"),
        ("[run]\nseconds = inf\n", "p.toml:3: run.seconds is inf, expected a finite number"),
        ("[machine]\ncpu = 2020-01-01\n", "p.toml:3: machine.cpu is a date or time"),
        ("version = 2\n", "p.toml:2: version is 2, expected 1"),
    ],
)
def test_a_wrong_value_says_what_it_is_and_what_was_expected(text, message):
    assert refused(HEAD + text).message.startswith(message)


def test_a_missing_key_and_broken_toml_are_said():
    assert refused("[machine]\n").message == "p.toml: description is missing"
    assert (
        "line 2" in refused("a = 1\nb = [\nc").message or "not valid TOML" in refused("b=[").message
    )
    assert "not valid TOML" in refused('description = "x\n').message


def test_the_first_of_several_problems_is_told_with_their_number():
    error = refused(HEAD + "[run]\nruns = 0\nprocesses = 0\n")
    assert error.message.startswith("p.toml:3: run.runs is 0")
    assert error.message.endswith("(and 1 more)")


def test_whole_numbers_and_lists_are_taken_where_numbers_and_tuples_stand():
    text = HEAD + '[run]\nseconds = 5\n[machine]\nmodels = ["A", "B"]\n'
    profile = strict.parse(Profile, text, "p.toml")
    assert profile.run.seconds == 5.0
    assert profile.machine.models == ("A", "B")


def test_lines_are_found_in_tables_dotted_and_quoted_keys_and_arrays_of_tables():
    text = 'a.b = 1\n"c d" = 2\n[[e]]\nf = 3\n[[e]]\nf = 4 # [x]\n[g.h]\ni = 5\n'
    assert find_line(text, ("a", "b")) == 1
    assert find_line(text, ("c d",)) == 2
    assert find_line(text, ("e", 0, "f")) == 4
    assert find_line(text, ("e", 1, "f")) == 6
    assert find_line(text, ("g", "h", "i")) == 8
    assert find_line(text, ("g", "h", "missing")) == 7
    assert find_line(text, ("nothing",)) is None


def test_a_list_of_tables_names_the_number_of_the_wrong_one():
    class Item(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        size_mib: int

    class Items(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        items: tuple[Item, ...]

    with pytest.raises(ConfigError) as caught:
        strict.parse(Items, "[[items]]\nsize_mib = 1\n[[items]]\nsize_mb = 1\nsize_mib = 2\n", "x")
    assert caught.value.message == "x:4: unknown key items.1.size_mb"
    assert caught.value.hint == "did you mean size_mib? it is in MiB"
