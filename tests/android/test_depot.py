"""Files and releases on a phone: whole or not at all, with Android's own commands."""

import threading

import pytest

from edgeq.core.inventory import Device
from edgeq.errors import BusyError, DeviceError, LinkLostError, SpaceError
from edgeq.native import phone as examining
from edgeq.native.depot import Depot


def quiet(*_):
    """Progress that nobody looks at."""


def connect(bench, phone):
    device = Device(name="phone", profile="android", transport="adb", serial=phone.address)
    return bench.transport().connect(device)


@pytest.fixture
def phone(bench, tmp_path):
    (tmp_path / "data").mkdir()
    return bench.phone(data_size=str(tmp_path / "data"))


@pytest.fixture
def depot(bench, phone):
    return Depot(connect(bench, phone), "phone")


def names(phone):
    return sorted(
        str(path.relative_to(phone.edgeq)) for path in phone.edgeq.rglob("*") if not path.is_dir()
    )


def release(number, size=1000):
    return {"model.tflite": bytes([number]) * size, "manifest.json": b"%d" % number}


def test_a_file_arrives_whole_and_is_not_sent_twice(depot, phone):
    assert depot.put("bin/tool", b"x" * 300_000, mode="700") == 300_000
    assert depot.put("bin/tool", b"x" * 300_000, mode="700") == 0
    assert (phone.edgeq / "bin/tool").stat().st_mode & 0o777 == 0o700
    assert depot.put("bin/tool", b"y" * 10) == 10
    assert (phone.edgeq / "bin/tool").read_bytes() == b"y" * 10
    assert names(phone) == ["bin/tool"]


def test_an_empty_file_arrives_too(depot, phone):
    assert depot.put("bin/empty", b"") == 0
    assert (phone.edgeq / "bin/empty").read_bytes() == b""


def test_a_file_that_was_changed_there_is_sent_again(depot, phone):
    depot.put("bin/tool", b"x" * 1000)
    (phone.edgeq / "bin/tool").write_bytes(b"z" * 1000)
    assert depot.put("bin/tool", b"x" * 1000) == 1000


def test_releases_are_switched_by_one_file_and_two_are_kept(depot):
    for number in (1, 2, 3):
        depot.install("m", f"1-{number}", release(number), quiet)
        before = depot.releases()
        depot.commit("m", f"1-{number}")
        assert before != depot.releases()
    (found,) = depot.releases()
    assert (found.current, found.previous) == ("1-3", "1-2")
    assert sorted(found.releases) == ["1-2", "1-3"]
    assert depot.install("m", "1-3", release(3), quiet) == 0
    depot.commit("m", "1-3")
    assert depot.releases() == (found,)


def test_rollback_swaps_and_says_where_there_is_nothing(depot):
    with pytest.raises(DeviceError, match="no previous release"):
        depot.rollback("m")
    for number in (1, 2):
        depot.install("m", f"1-{number}", release(number), quiet)
        depot.commit("m", f"1-{number}")
    assert depot.rollback("m").current == "1-1"
    assert depot.rollback("m").current == "1-2"


def test_a_discarded_release_goes_and_the_active_one_stays(depot):
    depot.install("m", "1-1", release(1), quiet)
    depot.commit("m", "1-1")
    depot.install("m", "1-2", release(2), quiet)
    depot.discard("m", "1-2")
    depot.discard("m", "1-1")
    (found,) = depot.releases()
    assert found.releases == ("1-1",)


def test_a_damaged_release_is_brought_again(depot, phone):
    depot.install("m", "1-1", release(1), quiet)
    (phone.edgeq / "models/m/releases/1-1/model.tflite").write_bytes(b"damaged")
    assert depot.install("m", "1-1", release(1), quiet) == 1001


def test_a_name_that_leads_elsewhere_is_refused(depot):
    for name in ("../up", "a/b", ".hidden", ""):
        with pytest.raises(DeviceError, match="cannot be a name"):
            depot.install("m", name, release(1), quiet)


def test_the_holder_is_named_to_others_and_goes_with_the_connection(depot, phone, bench):
    with depot.held("alice; $(touch /x) 'q'"):
        other = Depot(connect(bench, phone), "phone")
        with pytest.raises(BusyError, match="alice") as caught, other.held("bob"):
            pass
        assert "$(touch /x) 'q'" in caught.value.message
    with depot.held("bob"):
        pass
    assert names(phone) == []


def test_a_lock_whose_holder_is_gone_is_taken_over(depot, phone):
    phone.edgeq.mkdir(parents=True)
    (phone.edgeq / "lock").symlink_to("999999 another-boot alice")
    with depot.held("bob"):
        pass
    (phone.edgeq / "lock").symlink_to("nonsense")
    with depot.held("bob"):
        pass


def test_a_full_phone_says_so_and_keeps_what_it_had(bench):
    small = bench.phone(data_size="300k")
    depot = Depot(connect(bench, small), "phone")
    depot.install("m", "1-1", release(1), quiet)
    depot.commit("m", "1-1")
    before = names(small)
    with pytest.raises(SpaceError, match="/data of phone is full") as caught:
        depot.install("m", "1-2", release(2, size=900_000), quiet)
    assert "du -h" in caught.value.hint
    assert names(small) == before
    assert depot.releases()[0].current == "1-1"


def test_a_phone_that_vanishes_in_mid_push_leaves_nothing_that_counts(bench, tmp_path):
    (tmp_path / "kept").mkdir()
    dying = bench.phone("dying", data_size=str(tmp_path / "kept"), vanish_after=200_000)
    depot = Depot(connect(bench, dying), "phone")
    with pytest.raises(LinkLostError), depot.held("me"):
        depot.install("m", "1-1", release(1, size=900_000), quiet)
    again = bench.phone("again", data_size=str(tmp_path / "kept"))
    depot = Depot(connect(bench, again), "phone")
    with depot.held("me"):
        assert names(again) == ["lock"]
        assert depot.install("m", "1-1", release(1), quiet) == 1001
        depot.commit("m", "1-1")
    assert depot.releases()[0].current == "1-1"


def test_two_at_once_one_of_them_waits(depot, phone, bench):
    other = Depot(connect(bench, phone), "phone")
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with other.held("other"):
            inside.set()
            leave.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(20)
    with pytest.raises(BusyError), depot.held("me"):
        pass
    leave.set()
    holder.join()
    with depot.held("me"):
        pass


def test_what_a_phone_is(bench):
    made = bench.phone(props={"ro.build.version.release": "13", "ro.soc.model": "Tensor G2"})
    facts = examining.examine(connect(bench, made), "phone")
    assert (facts.system, facts.os, facts.model, facts.cpu) == (
        "Android", "Android 13", "edgeq Lab Phone", "Tensor G2",
    )  # fmt: skip
    assert facts.pythons == ()
    assert facts.home_writable
    assert 100 < facts.disk_free_mib < 250
