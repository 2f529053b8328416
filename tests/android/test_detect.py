"""A phone over adb, looked at by its shell alone: it is the profile of Android over adb."""

from contextlib import closing

from edgeq import bare, registry
from edgeq.core import detected
from edgeq.core.inventory import Device


def test_a_phone_is_the_profile_for_adb(bench):
    device = Device(name="phone", profile="android", transport="adb", serial=bench.phone().address)
    with closing(bench.transport().connect(device)) as link:
        facts, state, _ = bare.examine(link, "phone")
    assert (facts.home, facts.home_writable) == ("/data/local/tmp", True)
    assert facts.model == "edgeq Lab Phone"
    assert facts.memory_mib
    assert facts.wall_time_s > 1.7e9
    assert (state.write_error, state.map_error) == ("", "")
    assert state.mount.point.startswith("/data")
    phone = facts.model_copy(update={"libc": "bionic"})  # which the lab's phone has not
    assert detected.match(phone, registry.profiles(), "adb").name == "android"
