import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from edgeq.core import strict
from edgeq.core.profile import Profile
from edgeq.errors import ConfigError

ROOT = Path(__file__).parents[2]
PACKAGED = sorted((ROOT / "device_profiles").glob("*.toml"))
BAD = sorted((ROOT / "tests/data/profiles/bad").glob("*.toml"))


def read(path: Path) -> Profile:
    return strict.parse(Profile, path.read_text(), path.name)


def test_the_kinds_of_devices_that_were_promised_are_there():
    assert {path.stem for path in PACKAGED} >= {
        "host",
        "linux",
        "pi4",
        "pi5",
        "pi-zero2w",
        "jetson-orin-nano",
        "jetson-orin-nano-gpu",
        "android-termux",
    }


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_a_packaged_profile_is_valid_names_its_sources_and_leaves_nothing_to_defaults(path):
    text = path.read_text()
    read(path)
    assert text.startswith("# ")
    assert "Sources:" in text.split("version = 1")[0]
    tables = tomllib.loads(text)
    assert set(tables) == set(Profile.model_fields)
    assert {"format", "precision", "input_dtype", "output_dtype"} <= set(tables["conversion"])
    assert set(tables["run"]) == set(type(read(path).run).model_fields)


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_a_packaged_profile_fits_the_published_schema(path):
    schema = Profile.model_json_schema()
    jsonschema.Draft202012Validator(schema).validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_a_packaged_profile_names_meters_that_the_agent_has(path):
    meters = {file.stem for file in (ROOT / "edgeq/agent/meters").glob("[a-z]*.py")}
    assert set(read(path).telemetry.power) <= meters


def test_termux_has_its_own_port_and_paths_and_no_glibc():
    termux = read(ROOT / "device_profiles/android-termux.toml")
    assert termux.access.port == 8022
    assert termux.access.python is not None
    assert termux.access.python.startswith("/data/data/com.termux/files/usr/")
    assert termux.system.glibc_min is None


def test_host_is_this_machine():
    assert read(ROOT / "device_profiles/host.toml").access.transport == "local"


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_wrong_profile_is_refused_with_file_line_and_mend(path):
    expected = json.loads(path.with_suffix(".json").read_text())
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert caught.value.message == f"{path.name}:{expected['message']}"
    assert caught.value.hint == expected["hint"]
    assert caught.value.exit_code == 2


def test_a_profile_needs_no_more_than_a_description():
    profile = strict.parse(Profile, 'description = "any board"\n', "x.toml")
    assert (profile.version, profile.run.processes) == (1, 3)


@pytest.mark.parametrize(("text", "cpus"), [('"2-3"', (2, 3)), ("[0, 2]", (0, 2)), ('"1"', (1,))])
def test_the_cpus_of_a_run_are_a_list_as_the_kernel_or_toml_has_it(text, cpus):
    shipped = (ROOT / "device_profiles/pi4.toml").read_text()
    wished = shipped.replace("cpus = []", f"cpus = {text}")
    assert strict.parse(Profile, wished, origin="it").run.cpus == cpus


def test_cpus_that_are_no_list_are_named_with_their_line():
    shipped = (ROOT / "device_profiles/pi4.toml").read_text()
    with pytest.raises(ConfigError, match=r'run\.cpus: "a-b" is not a list of CPUs'):
        strict.parse(Profile, shipped.replace("cpus = []", 'cpus = "a-b"'), origin="it")
