"""Finding out what a device is, and whether it is what its profile says."""

import sys

import pytest

from edgeq import registry
from edgeq.archive import examine_script
from edgeq.core.inventory import Device
from edgeq.core.profile import Machine, Profile, System
from edgeq.errors import DeviceError, PreflightError
from edgeq.examination import check, describe, examine, python_hint, version_tuple
from edgeq.transports import local, ssh
from tests.provision.conftest import python
from tests.servers import sshd

LINUX = Profile(description="any")
LOCAL = Device(name="here", profile="host", transport="local")


@pytest.fixture
def link(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return local.make().connect(LOCAL)


def test_this_machine_is_described(link, tmp_path):
    facts = examine(link, examine_script(), sys.executable, "here")
    assert facts.pythons[0].path == sys.executable
    assert facts.home == str(tmp_path)
    assert "Python 3" in describe(facts)


def test_an_examination_writes_nothing(tmp_path):
    with sshd.running(tmp_path / "server", sshd.Options(path="/usr/bin:/bin")) as server:
        link = ssh.make().connect(server.device())
        facts = examine(link, examine_script(), None, "bench")
        link.close()
        assert facts.root == str(server.home / ".edgeq")
        assert list(server.home.iterdir()) == []


def test_a_device_without_python_is_told(link):
    class Bare:
        """Like the link, with a PATH that has a shell and nothing else."""

        def run(self, argv, **options):
            flag, script, *rest = argv[1:]
            # The folders that are always looked at have to be empty too.
            emptied = script.replace("/usr/", "/nowhere/").replace("/data/", "/nowhere/")
            return link.run(
                ["env", "-i", "PATH=/nowhere", "/bin/sh", flag, emptied, *rest], **options
            )

    with pytest.raises(PreflightError, match="bench has no Python 3") as caught:
        examine(Bare(), examine_script(), None, "bench")
    assert "apt install python3" in caught.value.hint


def test_a_hint_that_does_not_work_is_passed_over(link):
    facts = examine(link, examine_script(), "/nowhere/python3", "here")
    assert facts.pythons


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise SystemExit('it broke')", "it broke"),
        ("print('EDGEQ-FACTS {')", "wrong"),
        ("print('EDGEQ-FACTS {}')", "wrong at system"),
        ("print('nothing')", "could not be examined"),
    ],
)
def test_an_answer_that_is_none_is_an_error(link, script, words):
    with pytest.raises(DeviceError, match=words):
        examine(link, script, sys.executable, "here")


def test_a_device_that_fits_passes(facts):
    check(LINUX, facts(), "pi", {})
    check(registry.profile("pi4").profile, facts(), "pi", {})


@pytest.mark.parametrize(
    ("profile", "changes", "words"),
    [
        (Profile(description="x", machine=Machine(architectures=("x86_64",))), {}, "aarch64"),
        (Profile(description="x", machine=Machine(memory_min_mib=4000)), {}, "1848 MiB"),
        (Profile(description="x", system=System(python_min="3.12")), {}, r"3\.11\.2"),
        (Profile(description="x", system=System(glibc_min="2.38")), {}, r"glibc 2\.36"),
        (LINUX, {"libc": "musl", "libc_version": "1.2"}, "musl"),
        (LINUX, {"pythons": ()}, "it has no Python"),
        (LINUX, {"system": "FreeBSD"}, "FreeBSD"),
        (LINUX, {"home_writable": False}, "cannot write"),
        (
            Profile(description="x", system=System(kind="android", glibc_min=None)),
            {},
            "not Android",
        ),
    ],
)
def test_a_device_that_does_not_fit_is_told_what_it_is(facts, profile, changes, words):
    with pytest.raises(PreflightError, match=words) as caught:
        check(profile, facts(**changes), "bench", {})
    assert "Raspberry Pi 4" in caught.value.message
    assert caught.value.exit_code == 1


def test_the_profiles_that_fit_are_named(facts):
    known = {name: one.profile for name, one in registry.profiles().items()}
    with pytest.raises(PreflightError) as caught:
        check(known["pi4"], facts(architecture="x86_64"), "bench", known)
    assert caught.value.hint == "profiles that fit: host, linux"


def test_what_is_unknown_is_no_reason_to_refuse(facts):
    unknown = facts(memory_mib=None, libc=None, libc_version=None)
    check(Profile(description="x", machine=Machine(memory_min_mib=4000)), unknown, "pi", {})


def test_the_python_to_prefer_is_the_devices_then_the_profiles_then_here_ours():
    termux = registry.profile("android-termux").profile
    device = Device(name="x", profile="y", host="z")
    assert python_hint(device, LINUX) is None
    assert python_hint(device, termux) == termux.access.python
    assert python_hint(device.model_copy(update={"python": "/p"}), termux) == "/p"
    assert python_hint(LOCAL, LINUX) == sys.executable


def test_a_version_is_compared_by_its_numbers():
    assert version_tuple("2.36") > version_tuple("2.9")
    assert version_tuple("2.36-debian") == (2,)
    assert version_tuple("") == ()


def test_python_versions_are_compared_as_far_as_the_profile_says(facts):
    check(
        Profile(description="x", system=System(python_min="3.11")),
        facts(pythons=(python(11),)),
        "pi",
        {},
    )
