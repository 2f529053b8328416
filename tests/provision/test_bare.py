"""A device without a Python: what its shell alone can tell."""

import pytest

from edgeq import bare
from edgeq.core.inventory import Device
from edgeq.errors import DeviceError
from edgeq.ports import Completed
from edgeq.transports import local

RECORDED = """\
Welcome to the board
EDGEQ-SHELL system Linux
EDGEQ-SHELL machine aarch64
EDGEQ-SHELL kernel 5.10.0
EDGEQ-SHELL bits 32
EDGEQ-SHELL user pi
EDGEQ-SHELL home /home/pi
EDGEQ-SHELL glibc glibc 2.31
EDGEQ-SHELL os Raspbian GNU/Linux 11 (bullseye)
EDGEQ-SHELL model Raspberry Pi 3 Model B Plus Rev 1.3
EDGEQ-SHELL clock 1795000000
EDGEQ-SHELL cores 4
EDGEQ-SHELL load 0.42 0.30 0.20 1/99 812
EDGEQ-SHELL features Features\t: half thumb neon vfpv4
EDGEQ-SHELL MemTotal MemTotal:         948304 kB
EDGEQ-SHELL MemAvailable MemAvailable:     512000 kB
EDGEQ-SHELL folder /home/pi
EDGEQ-SHELL disk /dev/sda2 1048576 1024 204800 1% /home
EDGEQ-SHELL inodes /dev/sda2 65536 65000 536 99% /home
EDGEQ-SHELL mounts /dev/root / ext4 rw 0 0|/dev/sda2 /home ext4 ro,noexec 0 0|
EDGEQ-SHELL python Python 2.7.18 (/usr/bin/python2)
EDGEQ-SHELL throttled throttled=0x50005
EDGEQ-SHELL end yes
"""


class Recorded:
    """A link to a device whose shell once said this."""

    def __init__(self, said):
        self.said = said

    def run(self, argv, **_options):
        assert argv[0] == "sh"
        return Completed(status=0, stdout=self.said.encode(), stderr=b"")


def test_what_a_shell_said_becomes_facts_and_state():
    facts, state, useless = bare.examine(Recorded(RECORDED), "bench")
    assert (facts.architecture, facts.libc, facts.libc_version) == ("armv7l", "glibc", "2.31")
    assert facts.model == "Raspberry Pi 3 Model B Plus Rev 1.3"
    assert (facts.cores, facts.memory_mib) == (4, pytest.approx(926.1, abs=0.1))
    assert facts.disk_free_mib == 200.0
    assert facts.throttled[0] == "under-voltage"
    assert (facts.wall_time_s, facts.load_1min) == (1795000000.0, 0.42)
    assert facts.pythons == ()
    assert (state.inodes_free, state.inodes_size) == (536, 65536)
    assert (state.write_error, state.map_error) == ("EROFS", "EPERM")
    assert useless == ("Python 2.7.18 (/usr/bin/python2)",)


def test_this_machines_shell_tells_what_its_python_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    link = local.make().connect(Device(name="here", profile="host", transport="local"))
    facts, state, _ = bare.examine(link, "here")
    assert facts.home == str(tmp_path)
    assert facts.memory_mib > facts.memory_available_mib > 0
    assert facts.disk_free_mib > 0
    assert facts.wall_time_s > 1.7e9
    assert facts.libc in ("glibc", "musl")
    assert facts.libc_version
    assert (state.write_error, state.map_error) == ("", "")
    assert state.mount.options
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "libc"),
    [
        ("musl musl libc (aarch64) Version 1.2.4 Dynamic Program Loader", ("musl", "1.2.4")),
        ("bionic sdk 34", ("bionic", "34")),
        ("bionic sdk ", ("bionic", None)),
        ("ldd ldd (Debian GLIBC 2.31-13+deb11u5) 2.31 Copyright", ("glibc", "2.31")),
        ("ldd ldd (GNU libc) 2.28", ("glibc", "2.28")),
        ("ldd not found", (None, None)),
    ],
)
def test_the_c_library_is_told_in_many_ways(lines, libc):
    said = f"EDGEQ-SHELL machine aarch64\nEDGEQ-SHELL home /h\nEDGEQ-SHELL {lines}\n"
    facts, _, _ = bare.examine(Recorded(said), "bench")
    assert (facts.libc, facts.libc_version) == libc


def test_the_least_that_a_shell_can_say_is_enough():
    facts, state, _ = bare.examine(
        Recorded("EDGEQ-SHELL machine armv6l\nEDGEQ-SHELL home /root\n"), "bench"
    )
    assert facts.architecture == "armv6l"
    assert facts.memory_mib is None
    assert state.map_error is None


def test_a_shell_that_runs_nothing_is_an_error():
    with pytest.raises(DeviceError, match="bench could not be examined"):
        bare.examine(Recorded("restricted\n"), "bench")
