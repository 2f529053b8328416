import io
import zipfile

import pytest

from edgeq import wire


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in members:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


GOOD = zipped(
    ("pkg/", b"", 0o40755),
    ("pkg/__init__.py", b"x = 1\n", 0o100644),
    ("pkg/lib.so", b"\x7fELF", 0o100755),
    ("plain.txt", b"no mode", 0),
)


def unpack(agent, data, into="runtimes/abc"):
    agent.put("runtimes/abc.zip", data)
    return agent.ask(wire.Unpack("runtimes/abc.zip", into))


def entries(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_a_zip_becomes_a_folder_and_goes(agent, root):
    assert unpack(agent, GOOD) == wire.Done()
    assert entries(root / "runtimes") == [
        "abc",
        "abc/pkg",
        "abc/pkg/__init__.py",
        "abc/pkg/lib.so",
        "abc/plain.txt",
    ]
    assert (root / "runtimes/abc/pkg/lib.so").stat().st_mode & 0o100


def test_a_folder_that_is_there_is_whole_and_stays(agent, root):
    unpack(agent, GOOD)
    assert unpack(agent, zipped(("other", b"", 0o100644))) == wire.Done()
    assert entries(root / "runtimes")[0] == "abc"
    assert (root / "runtimes/abc/pkg/__init__.py").read_bytes() == b"x = 1\n"


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x", 0o100644)],
        [("a/../../evil", b"x", 0o100644)],
        [("/tmp/evil", b"x", 0o100644)],
        [("a//b", b"x", 0o100644)],
        [("./a", b"x", 0o100644)],
        [("a\\..\\b", b"x", 0o100644)],
        [("link", b"/etc/passwd", 0o120777)],
        [("device", b"", 0o020666)],
        [("a", b"1", 0o100644), ("a", b"2", 0o100644)],
        [("a" * 300, b"1", 0o100644)],
        [("a", b"1", 0o100644), ("a/b", b"2", 0o100644)],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_member_leaves_nothing(agent, root, members):
    answer = unpack(agent, zipped(("first", b"x", 0o100644), *members))
    assert answer.kind in {"refused", "io"}
    assert entries(root / "runtimes") == ["abc.zip"]
    assert not (root.parent / "evil").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(agent, root):
    data = bytearray(zipped(("big", bytes(1000), 0o100644)))
    start = data.rindex(b"PK\x01\x02")
    data[start + 24 : start + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    bomb = zipped(*((f"n{number}", b"", 0o100644) for number in range(100_001)))
    for hostile in (bytes(data), bomb):
        assert unpack(agent, hostile).kind in {"refused", "space"}
        assert entries(root / "runtimes") == ["abc.zip"]


def test_a_damaged_zip_leaves_nothing(agent, root):
    for data in (b"", b"no zip", GOOD[:-10], GOOD.replace(b"x = 1", b"x = 2")):
        flipped = bytearray(data)
        if len(flipped) > 60:
            flipped[50] ^= 0xFF
        assert unpack(agent, bytes(flipped)).kind in {"refused", "io"}
        assert entries(root / "runtimes") == ["abc.zip"]


def test_other_places_are_refused(agent):
    agent.put("runtimes/abc.zip", GOOD)
    for into in ("models/net", "runtimes", "runtimes/a/b", "../x", "/tmp/x", "agents/x"):
        assert agent.ask(wire.Unpack("runtimes/abc.zip", into)).kind == "refused"
    assert agent.ask(wire.Unpack("runtimes/none.zip", "runtimes/abc")).kind == "missing"
    assert agent.ask(wire.Unpack("runtimes/abc.zip", "scratch/x")) == wire.Done()
