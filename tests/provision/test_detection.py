"""A profile from what a machine answered: known, known but unlike, unknown, offline, bare."""

import json

import pytest

from edgeq import detection, registry, wheels
from edgeq.core import strict
from edgeq.core.inventory import Device
from edgeq.core.profile import Profile
from edgeq.errors import FetchError
from edgeq.places import Places
from edgeq.ports import Completed
from tests.provision.conftest import Index
from tests.provision.test_bare import RECORDED
from tests.provision.test_wheels import LISTING

DEVICE = Device(name="bench", profile="linux", host="10.0.0.7", user="pi")
PYTHON = {"path": "/usr/bin/python3", "version": [3, 11, 2]}
PI4 = {
    "system": "Linux",
    "architecture": "aarch64",
    "kernel": "6.6.31+rpt-rpi-v8",
    "os": "Debian GNU/Linux 12 (bookworm)",
    "model": "Raspberry Pi 4 Model B Rev 1.4",
    "cpu": "Cortex-A72",
    "cpu_flags": ["fp", "asimd", "evtstrm", "crc32", "cpuid"],
    "clusters": [{"cpu": "Cortex-A72", "cores": 4, "max_mhz": 1800.0}],
    "cores": 4,
    "memory_mib": 3791.0,
    "libc": "glibc",
    "libc_version": "2.36",
    "home": "/home/pi",
    "root": "/home/pi/.edgeq",
    "user": "pi",
    "pythons": [PYTHON],
    "sensors": ["temperature: cpu-thermal", "throttling: vcgencmd"],
    "sources": {"power": [], "thermal": ["thermal_zone"], "throttling": ["vcgencmd"]},
    "wall_time_s": 1.0,
}


class Answers:
    """A link to a machine whose Python, or whose shell alone, once said this."""

    def __init__(self, facts):
        said = f"EDGEQ-FACTS {json.dumps(facts)}\n" if facts else "EDGEQ-NO-PYTHON\n"
        self.said = {"-c": said, "-s": RECORDED}

    def run(self, argv, **_options):
        return Completed(status=0, stdout=self.said[argv[1]].encode(), stderr=b"")


@pytest.fixture
def detect(tmp_path, monkeypatch):
    """Look at a machine with these facts; wheels come from a recorded listing."""
    monkeypatch.setattr(wheels, "fetch", Index(tmp_path, LISTING))

    def look(facts, name=None):
        places = Places(config=tmp_path, data=tmp_path, cache=tmp_path, log=tmp_path)
        wish = detection.Wish(device=DEVICE, profile=registry.profile("linux").profile, name=name)
        known = registry.profiles()
        return detection.detect(Answers(facts), wish, known, places, lambda *_: None)

    return look


def test_a_known_board_gives_back_its_profile_with_its_comments(detect):
    found = detect(PI4)
    shipped = registry.profile("pi4")
    assert (found.name, found.known.name, found.unlike) == ("pi4", "pi4", "")
    assert found.profile == shipped.profile
    assert found.text.endswith(shipped.path.read_text())
    assert strict.parse(Profile, found.text, origin="it") == shipped.profile
    assert found.text.startswith("# Raspberry Pi 4 Model B Rev 1.4, found by edgeq profiles detect")
    assert "Cortex-A72 at 1800 MHz" in found.text


def test_a_known_board_that_is_too_old_gets_a_profile_of_its_own_and_the_reason(detect):
    found = detect({**PI4, "pythons": [{**PYTHON, "version": [3, 8, 10]}]})
    assert (found.known, found.like.name) == (None, "pi4")
    assert found.unlike == "it has Python 3.8.10, not at least 3.9"
    assert "The board is a pi4, but not as that profile says: it has Python 3.8.10" in found.text
    read = strict.parse(Profile, found.text, origin="it")
    assert (read, read.system.python_min) == (found.profile, "3.8")


def test_an_unknown_board_says_what_runs_there(detect):
    found = detect({**PI4, "model": "Radxa ROCK 5B"})
    assert (found.known, found.like, found.name) == (None, None, "radxa-rock-5b")
    ran = {one.kind: one.version for one in found.runs}
    assert [kind for kind, version in ran.items() if version] == list(found.profile.runtime.kinds)
    assert "# Runs .tflite: ai-edge-litert" in found.text
    assert found.profile.telemetry.throttling == ("vcgencmd",)


def test_a_name_can_be_given(detect):
    assert detect(PI4, "mine").name == "mine"


def test_without_a_network_what_runs_is_unknown_not_no(detect, monkeypatch):
    def offline(requirement, _target, _folder):
        raise FetchError(f"{requirement} could not be fetched", hint="is it online?")

    monkeypatch.setattr(wheels, "fetch", offline)
    found = detect({**PI4, "model": "Radxa ROCK 5B"})
    assert [one.sure for one in found.runs] == [False, False, False]
    assert found.profile.runtime.kinds == ("litert", "tflite_runtime", "onnxruntime")
    assert "Unknown whether it runs" in found.text


def test_a_board_without_a_python_is_known_by_its_shell(detect):
    found = detect(None)
    assert found.like.name == "pi3"
    assert found.unlike == "it has no Python"
    assert found.profile.machine.architectures == ("armv7l",)
    assert "Does not run ai-edge-litert" in found.text
    assert strict.parse(Profile, found.text, origin="it") == found.profile


def test_a_profile_of_the_users_own_is_known_too(detect, tmp_path, monkeypatch):
    own = tmp_path / "device_profiles"
    own.mkdir()
    (own / "mine.toml").write_text(
        'description = "x"\n[machine]\nmodels = ["Raspberry Pi 4 Mod"]\n'
    )
    monkeypatch.chdir(tmp_path)
    assert detect(PI4).known.name == "mine"  # the longer beginning is the better one
