import stat
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from edgeq import pythons
from edgeq.errors import HostError

HERE = "{}.{}".format(*sys.version_info)


@pytest.fixture
def nowhere(tmp_path):
    """A machine without any Python."""
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}


def put(path, version):
    """A program that answers as a Python of that version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\necho {path}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_edgeqs_own_python_is_taken_if_it_fits(nowhere):
    found = pythons.find("torch", SpecifierSet(">=3.11"), environ=nowhere)
    assert (found.version, found.path) == (HERE, Path(sys.executable))


def test_none_is_an_error_that_says_what_to_install(nowhere):
    with pytest.raises(HostError) as caught:
        pythons.find("onnx2tf", SpecifierSet(">=3.12"), environ=nowhere, own=None)
    assert caught.value.message == (
        "the environment onnx2tf needs Python 3.12 or newer, and this machine has none"
    )
    assert "apt-get install python3.12 python3.12-venv" in caught.value.hint
    assert "uv python install 3.12" in caught.value.hint


def test_both_ends_of_the_range_are_told(nowhere):
    with pytest.raises(HostError, match=r"needs Python 3\.11 or newer, older than 3\.14,"):
        pythons.find("torch", SpecifierSet(">=3.11,<3.14"), environ=nowhere, own=None)


@pytest.mark.parametrize(
    "place",
    [
        "bin/python3.13",
        ".pyenv/versions/3.13.0/bin/python3.13",
        ".local/share/uv/python/cpython-3.13.1-linux/bin/python3.13",
    ],
    ids=["PATH", "pyenv", "uv"],
)
def test_it_is_found_on_the_path_and_where_pyenv_and_uv_keep_theirs(nowhere, tmp_path, place):
    path = put(tmp_path / place, "3.13.0")
    found = pythons.find("onnx2tf", SpecifierSet(">=3.12"), environ=nowhere, own=None)
    assert (found.version, found.path) == ("3.13", path)


def test_one_that_is_too_old_or_too_new_or_does_not_start_is_passed_over(nowhere, tmp_path):
    put(tmp_path / "bin" / "python3.14", "3.14.0")
    put(tmp_path / "bin" / "python3.13", "3.13.0").write_text("#!/bin/sh\nexit 127\n")
    put(tmp_path / "bin" / "python3.10", "3.10.4")
    right = put(tmp_path / "bin" / "python3.12", "3.12.8")
    wanted = SpecifierSet(">=3.11,<3.14")
    assert pythons.find("torch", wanted, environ=nowhere, own=None).path == right
