"""``edgeq profiles``, ``edgeq runs`` and ``edgeq schema``, run as a user runs them."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import typer
from typer.testing import CliRunner

from edgeq.cli import profiles, runs, schema
from edgeq.core import report, summary
from edgeq.core.inventory import Device, Inventory
from edgeq.errors import ConfigError, HostError, UsageError
from edgeq.stores import sqlite
from tests.fakes.outcome import outcome

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_HOME", str(tmp_path))
    return tmp_path


def run(*words: str):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.add_typer(profiles.app, name="profiles")
    app.add_typer(runs.app, name="runs")
    app.command("schema")(schema.schema)
    return CliRunner().invoke(app, list(words))


def test_profiles_are_listed():
    out = run("profiles", "list").stdout
    assert out.splitlines()[0].split() == ["profile", "machine", "description"]
    assert "pi4" in out
    assert "Raspberry Pi 4" in out


def test_profiles_are_listed_as_json():
    found = json.loads(run("profiles", "list", "--json").stdout)
    assert {item["name"] for item in found} >= {"host", "pi4", "android-termux"}


def test_a_profile_is_shown_with_all_its_values():
    out = run("profiles", "show", "android-termux").stdout
    assert "8022" in out
    assert "no glibc" in out
    assert "budgets.energy_mj" in out
    shown = json.loads(run("profiles", "show", "android-termux", "--json").stdout)
    assert shown["access"]["port"] == 8022


def test_a_profile_of_the_users_own_is_shown_by_its_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('description = "mine"\n')
    assert "mine" in run("profiles", "show", str(path)).stdout


def test_an_unknown_profile_is_an_error_with_the_nearest():
    error = run("profiles", "show", "pi44").exception
    assert isinstance(error, ConfigError)
    assert "did you mean pi4?" in error.hint


def save_two(home):
    store = sqlite.make(home / "data" / sqlite.FILE_NAME)
    for run_id in ("20261121-091500-3f9a", "20261121-101500-77aa"):
        store.save(run_id, report.dump(summary.summarise(outcome(run_id=run_id))), b"raw")


def test_no_runs_yet_says_how_to_make_one(home):
    assert "edgeq deploy makes one" in run("runs", "list").stdout
    assert json.loads(run("runs", "list", "--json").stdout) == []
    assert list(home.iterdir()) == []


def test_runs_are_listed_the_newest_first(home):
    save_two(home)
    lines = run("runs", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "run",
        "20261121-101500-77aa",
        "20261121-091500-3f9a",
    ]
    assert "5.00 ms" in lines[1]
    assert "valid" in lines[1]
    assert "passed" in lines[1]
    assert len(run("runs", "list", "--limit", "1").stdout.splitlines()) == 2
    found = json.loads(run("runs", "list", "--json").stdout)
    assert [item["run_id"] for item in found] == ["20261121-101500-77aa", "20261121-091500-3f9a"]


def test_a_run_is_shown_by_its_last_part(home):
    save_two(home)
    assert "run 20261121-101500-77aa" in run("runs", "show", "77aa").stdout
    shown = run("runs", "show", "77aa", "--json").stdout
    assert report.load(shown, "it").run_id == "20261121-101500-77aa"


def test_an_unknown_run_and_a_report_of_the_future_are_errors(home):
    save_two(home)
    assert isinstance(run("runs", "show", "zzz").exception, UsageError)
    sqlite.make(home / "data" / sqlite.FILE_NAME).save(
        "future", '{"schema": "edgeq.report/9"}', b""
    )
    error = run("runs", "show", "future").exception
    assert isinstance(error, HostError)
    assert "pip install -U edgeq" in error.hint


@pytest.mark.parametrize("name", list(schema.Document))
def test_each_document_has_a_schema_that_is_one(name):
    found = json.loads(run("schema", name.value).stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$schema"] == schema.DIALECT
    assert found["$id"] == f"urn:edgeq:{name.value}:1"


def test_the_schemas_accept_what_edgeq_writes_and_refuse_what_it_refuses():
    def valid(name, value):
        return jsonschema.Draft202012Validator(schema.document(name)).is_valid(value)

    profile = tomllib.loads((ROOT / "device_profiles/pi4.toml").read_text())
    assert valid(schema.Document.PROFILE, profile)
    assert not valid(schema.Document.PROFILE, {**profile, "treads": 4})
    project = tomllib.loads((ROOT / "examples/digits/edgeq.toml").read_text())
    assert valid(schema.Document.PROJECT, project)
    inventory = Inventory(devices=(Device(name="bench", profile="pi4", host="pi.local"),))
    assert valid(schema.Document.INVENTORY, inventory.model_dump(mode="json"))


def test_an_unknown_document_is_wrong_usage():
    done = run("schema", "recipe")
    assert done.exit_code == 2
    assert "'report', 'profile', 'project', 'inventory', 'manifest'" in done.stderr


def test_the_commands_are_defined_without_heavy_imports():
    script = (
        "import sys; from edgeq.cli import profiles, render, runs, schema;"
        "print([m for m in ('rich', 'numpy', 'paramiko', 'tensorflow', 'sqlite3',"
        " 'edgeq.core.report', 'edgeq.registry') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
