"""``edgeq profiles detect``: a profile from this machine, and from one over SSH."""

import json
import tomllib

import pytest

from edgeq.core import strict
from edgeq.core.profile import Profile


def at(server):
    return ("--host", f"{server.user}@127.0.0.1:{server.port}", "--identity", server.identity)


def test_this_machine_gives_a_profile_that_deploys_here(user):
    done = user.run("profiles", "detect", "--device", "host")
    assert done.returncode == 0, done.stderr
    found = strict.parse(Profile, done.stdout, origin="stdout")
    assert found.access.transport == "local"
    assert "litert" in found.runtime.kinds
    assert "edgeq deploy --device" in done.stderr
    path = user.home / "mine.toml"
    path.write_text(done.stdout)
    assert user.run("doctor", path).returncode == 0


def test_a_machine_gives_its_profile_before_it_is_added(user, server):
    path = user.home / "bench.toml"
    words = ("profiles", "detect", *at(server), "-o", path)
    assert "--fingerprint" in user.fails(4, *words)
    fingerprint = server.host_key().fingerprint
    done = user.run(*words, "--fingerprint", fingerprint)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"edgeq devices add NAME --profile {path}" in done.stderr
    found = tomllib.loads(path.read_text())
    assert found["access"] == {"transport": "ssh", "port": server.port}
    assert list(server.home.iterdir()) == []
    added = user.run(
        "devices", "add", "bench", "--profile", path, *at(server), "--fingerprint", fingerprint
    )
    assert added.returncode == 0, added.stderr
    assert "bench fits" in user.run("doctor", "bench").stdout


def test_a_file_is_replaced_only_when_asked(user):
    path = user.home / "mine.toml"
    path.write_text("precious")
    assert "--force" in user.fails(2, "profiles", "detect", "--device", "host", "-o", path)
    assert path.read_text() == "precious"
    done = user.run("profiles", "detect", "--device", "host", "-o", path, "--force")
    assert done.returncode == 0, done.stderr
    assert strict.parse(Profile, path.read_text(), origin="it").machine.cores >= 1


def test_json_has_the_profile_and_all_that_was_seen(user, device):
    done = user.run("profiles", "detect", "--device", device, "--json", "--name", "bench")
    assert done.returncode == 0, done.stderr
    assert f"edgeq devices remove {device}; edgeq devices add {device} --profile" in done.stderr
    found = json.loads(done.stdout)
    assert (found["name"], found["known"]) == ("bench", None)
    assert found["profile"]["machine"]["cores"] == found["facts"]["cores"]
    assert "machine.cpu" in found["sources"]
    assert {one["kind"] for one in found["runs"]} == {"litert", "tflite_runtime", "onnxruntime"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--device"),
        (("--device", "host", "--host", "a@b"), "--device"),
        (("--device", "host", "-o", "mine.txt"), ".toml"),
        (("--device", "host", "-o", "no/such/folder/mine.toml"), "no file can be written"),
        (("--device", "nobody"), "no device"),
        (("--device", "host", "--accept-new"), "go with --host"),
    ],
)
def test_wrong_words_are_told(user, words, said):
    assert said in user.fails(2, "profiles", "detect", *words)
