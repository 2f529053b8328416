import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from edgeq import registry
from edgeq.errors import ConfigError, UsageError

MINE = 'description = "mine"\n'


def test_a_profile_is_found_by_its_name_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = registry.profile("pi4")
    assert (found.name, found.path.name) == ("pi4", "pi4.toml")
    assert found.profile.machine.cpu == "Cortex-A72"


def test_a_profile_given_as_a_path_works(tmp_path):
    path = tmp_path / "my-board.toml"
    path.write_text(MINE)
    found = registry.profile(str(path))
    assert (found.name, found.path, found.profile.description) == ("my-board", path, "mine")


def test_a_profile_in_the_working_folder_hides_the_packaged_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "device_profiles").mkdir()
    (tmp_path / "device_profiles/pi4.toml").write_text(MINE)
    (tmp_path / "device_profiles/zebra.toml").write_text(MINE)
    found = registry.profiles()
    assert found["pi4"].profile.description == "mine"
    assert list(found)[-1] == "zebra"
    assert "pi5" in found


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        registry.profile("pi-5")
    assert caught.value.message == "no profile is called 'pi-5'"
    assert "did you mean pi5?" in caught.value.hint


def test_an_unknown_profile_like_no_other_lists_all():
    with pytest.raises(ConfigError) as caught:
        registry.profile("toaster9000")
    assert "android-termux, host," in caught.value.hint


@pytest.mark.parametrize("name", ["", "..", "$(touch x)", "a\nb", "-o", "ü"])
def test_a_hostile_name_is_no_profile_and_no_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        registry.profile(name)
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_a_file_is_an_error():
    with pytest.raises(ConfigError, match=r"there is no profile nowhere/x\.toml"):
        registry.profile("nowhere/x.toml")


def test_a_folder_or_binary_file_as_profile_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        registry.profile(f"{tmp_path}/")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        registry.profile(str(tmp_path / "x.toml"))
    (tmp_path / "big.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="too large"):
        registry.profile(str(tmp_path / "big.toml"))


def test_a_wrong_profile_names_its_file_and_line(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(MINE + "[machine]\nmemory_min_mb = 5\n")
    with pytest.raises(ConfigError) as caught:
        registry.profile(str(path))
    assert caught.value.message == f"{path}:3: unknown key machine.memory_min_mb"
    assert "memory_min_mib" in caught.value.hint


def test_an_adapter_is_found_by_its_file_name(tmp_path):
    store = registry.find("stores", "sqlite", tmp_path / "x.sqlite")
    assert store.list(5) == []
    assert "sqlite" in registry.names("stores")


def test_an_unknown_adapter_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        registry.find("stores", "sqlit")
    assert caught.value.message == "no store is called 'sqlit'"
    assert caught.value.hint == "did you mean sqlite?"


@pytest.mark.parametrize("name", ["__init__", "../errors", "os", "sqlite.make", ""])
def test_a_name_that_is_no_file_of_the_kind_is_unknown(name):
    with pytest.raises(UsageError):
        registry.find("stores", name)


def test_an_outside_package_adds_by_entry_point_but_hides_nothing(tmp_path, monkeypatch):
    package = tmp_path / "outside_store"
    package.mkdir()
    (package / "__init__.py").write_text("def make(path):\n    return ('outside', path)\n")
    info = tmp_path / "outside_store-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-store\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[edgeq.stores]\ncloud = outside_store\nfile = outside_store:make\nsqlite = outside_store\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {point.name for point in entry_points(group="edgeq.stores")} >= {"cloud", "file"}
    assert isinstance(next(iter(entry_points(group="edgeq.stores"))), EntryPoint)
    assert registry.find("stores", "cloud", Path("x")) == ("outside", Path("x"))
    assert registry.find("stores", "file", Path("x")) == ("outside", Path("x"))
    assert type(registry.find("stores", "sqlite", Path("x"))).__name__ == "SqliteStore"


def test_an_installed_edgeq_finds_the_profiles_that_came_with_it(tmp_path):
    root = Path(registry.__file__).parents[1]
    shutil.copytree(
        root / "edgeq", tmp_path / "edgeq", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(root / "device_profiles", tmp_path / "edgeq/device_profiles")
    script = "from edgeq import registry; print(registry.profile('pi4').path)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "edgeq/device_profiles/pi4.toml")
