"""Each board of the lab gives back its own profile."""

import json
import tomllib

import pytest

from edgeq import registry
from edgeq.core import strict
from edgeq.core.profile import Profile
from tests.device.choosing import some
from tests.device.someone import someone
from tests.lab import boards


def _kinds():
    """A board of each profile that is reached over SSH."""
    names = {boards.board(name).profile: name for name in reversed(boards.names())}
    known = registry.profiles()
    return [name for kind, name in names.items() if known[kind].profile.access.transport == "ssh"]


@pytest.fixture(scope="module", params=some(sorted(_kinds()), "pi4"))
def board(request, module_machines):
    return module_machines.up(request.param)


def test_a_board_gives_back_its_own_profile(board, tmp_path):
    user = someone(tmp_path)
    path = tmp_path / "found.toml"
    done = user.run("profiles", "detect", *user.at(board), "--json", "-o", path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    profile = board.profile
    assert (found["known"], found["unlike"]) == (profile, {})
    assert f"this is {profile}: edgeq devices add NAME --profile {profile}" in done.stderr
    shipped = registry.profile(profile).profile
    assert Profile.model_validate(found["profile"]) == shipped
    assert strict.parse(Profile, path.read_text(), origin="it") == shipped
    # What it is like is read from the machine, not from the profile.
    known = boards.board(board.board)
    assert found["facts"]["model"] == known.model
    assert found["facts"]["cores"] == known.cores
    assert known.model in path.read_text().splitlines()[0]


@pytest.mark.long
@pytest.mark.parametrize("board", ["jetson-orin-nano", "pi3-32bit"], indirect=True)
def test_a_board_without_a_profile_gets_one_that_it_fits(board, tmp_path):
    """Its model is hidden: then the file is made of what is there."""
    user = someone(tmp_path)
    path = tmp_path / "own.toml"
    own = tmp_path / "device_profiles"
    own.mkdir()
    shipped = registry.profile(board.profile).path.read_text()
    # The user's own profile of this name hides the shipped one.
    hidden = shipped.replace("models = [", 'models = ["Nothing"] # [')
    for name in (board.profile, *(n for n in registry.profiles() if n.startswith(board.profile))):
        (own / f"{name}.toml").write_text(hidden)
    done = user.run("profiles", "detect", *user.at(board), "-o", path)
    assert done.returncode == 0, done.stderr
    found = tomllib.loads(path.read_text())
    known = boards.board(board.board)
    real = registry.profile(board.profile).profile
    assert found["machine"]["architectures"] == [
        {"arm64": "aarch64", "armhf": "armv7l"}[known.architecture]
    ]
    assert found["machine"]["cores"] == known.cores
    assert known.model.startswith(found["machine"]["models"][0])
    if known.architecture == "arm64":
        assert found["machine"]["cpu"] == real.machine.cpu
        assert found["machine"]["instruction_set"] == real.machine.instruction_set
        assert "litert" in found["runtime"]["kinds"]
    else:
        assert found["runtime"]["kinds"] == ["tflite_runtime"]
    assert set(found["telemetry"]["throttling"]) <= set(real.telemetry.throttling)
    assert user.add(board, "own", path).returncode == 0
    done = user.run("doctor", "own", "--json")
    levels = {one["what"]: one["level"] for one in json.loads(done.stdout)["findings"]}
    assert levels["profile"] == "ok"
