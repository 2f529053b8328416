import json
import os
import shutil
from pathlib import Path

from edgeq import wire
from tests.fakes.agent import files_of

ONE = {"model.tflite": b"weights one", "golden.npz": b"golden", "manifest.json": b"{1}"}
TWO = {"model.tflite": b"weights two", "golden.npz": b"golden", "manifest.json": b"{2}"}
THREE = {"model.tflite": b"weights three", "golden.npz": b"golden", "manifest.json": b"{3}"}


def released(root, link="current", model="net"):
    folder = root / "models" / model / link
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_sealed_release_is_not_served_before_the_commit(locked, root):
    assert locked.install("net", "v1", ONE) == wire.Done()
    assert locked.ask(wire.ListReleases("net")).models == (wire.Releases("net", "", "", ("v1",)),)
    assert json.loads((root / "models/net/state.json").read_text())["trial"] == "v1"


def test_a_commit_keeps_the_release_before_as_previous(locked, root):
    assert locked.deploy("net", "v1", ONE) == wire.Releases("net", "v1", "", ("v1",))
    assert locked.deploy("net", "v2", TWO) == wire.Releases("net", "v2", "v1", ("v1", "v2"))
    assert released(root) == TWO
    assert released(root, "previous") == ONE
    assert (root / "models/net/current").readlink() == Path("releases/v2")


def test_committing_the_current_release_again_changes_nothing(locked):
    locked.deploy("net", "v1", ONE)
    before = locked.deploy("net", "v2", TWO)
    assert locked.deploy("net", "v2", TWO) == before


def test_a_release_that_is_there_is_not_sent_again(locked):
    locked.deploy("net", "v1", ONE)
    staged = locked.ask(wire.Stage("net", "v1", files_of(ONE)))
    assert staged == wire.Staged("models/net/releases/v1", (), exists=True)


def test_unchanged_files_are_linked_not_sent(locked, root):
    locked.deploy("net", "v1", ONE)
    staged = locked.ask(wire.Stage("net", "v2", files_of(TWO)))
    assert set(staged.missing) == {"model.tflite", "manifest.json"}
    locked.deploy("net", "v2", TWO)
    releases = root / "models/net/releases"
    assert (releases / "v1/golden.npz").samefile(releases / "v2/golden.npz")


def test_a_damaged_file_of_an_old_release_is_not_linked(locked, root):
    locked.deploy("net", "v1", ONE)
    (root / "models/net/releases/v1/golden.npz").write_bytes(b"goldem")
    staged = locked.ask(wire.Stage("net", "v2", files_of(TWO)))
    assert "golden.npz" in staged.missing


def test_a_damaged_release_is_mended_in_place(locked, root):
    locked.deploy("net", "v1", ONE)
    (root / "models/net/releases/v1/model.tflite").write_bytes(b"weights 0ne")
    (root / "models/net/releases/v1/extra").write_bytes(b"")
    assert locked.install("net", "v1", ONE) == wire.Done()
    assert released(root) == ONE


def test_rollback_changes_current_and_previous(locked, root):
    locked.deploy("net", "v1", ONE)
    locked.deploy("net", "v2", TWO)
    assert locked.ask(wire.Rollback("net")) == wire.Releases("net", "v1", "v2", ("v1", "v2"))
    assert released(root) == ONE
    assert locked.ask(wire.Rollback("net")).current == "v2"


def test_rollback_without_a_previous_release_is_refused(locked):
    locked.deploy("net", "v1", ONE)
    assert locked.ask(wire.Rollback("net")).kind == "missing"
    assert locked.ask(wire.Rollback("other")).kind == "missing"


def test_a_failed_trial_removes_the_release_and_serves_the_old(locked, root):
    locked.deploy("net", "v1", ONE)
    locked.install("net", "v2", TWO)
    assert locked.ask(wire.Discard("net", "v2", "crashed")) == wire.Releases(
        "net", "v1", "", ("v1",)
    )
    assert released(root) == ONE
    assert json.loads((root / "models/net/state.json").read_text())["trial"] == ""


def test_discarding_the_current_release_goes_back(locked, root):
    locked.deploy("net", "v1", ONE)
    locked.deploy("net", "v2", TWO)
    locked.deploy("net", "v3", THREE)
    answer = locked.ask(wire.Discard("net", "v3", "parity"))
    assert answer == wire.Releases("net", "v2", "v1", ("v1", "v2"))
    assert released(root) == TWO
    answer = locked.ask(wire.Discard("net", "v2", "parity"))
    assert answer == wire.Releases("net", "v1", "", ("v1",))
    assert not (root / "models/net/previous").is_symlink()


def test_discarding_the_only_release_or_the_previous_keeps_it(locked):
    locked.deploy("net", "v1", ONE)
    assert locked.ask(wire.Discard("net", "v1", "parity")).current == "v1"
    before = locked.deploy("net", "v2", TWO)
    assert locked.ask(wire.Discard("net", "v1", "parity")) == before
    assert locked.ask(wire.Discard("net", "none", "parity")) == before


def test_the_last_three_releases_are_kept(locked):
    for number in range(1, 6):
        locked.deploy("net", f"v{number}", {"model.tflite": b"%d" % number})
    assert locked.ask(wire.ListReleases()).models[0].releases == ("v3", "v4", "v5")


def test_current_and_previous_are_never_collected(locked):
    for number in range(1, 4):
        locked.deploy("net", f"v{number}", {"model.tflite": b"%d" % number})
    locked.ask(wire.Rollback("net"))
    locked.ask(wire.Commit("net", "v1"))
    answer = locked.deploy("net", "v4", {"model.tflite": b"4"})
    assert (answer.current, answer.previous) == ("v4", "v1")
    assert {"v4", "v1"} <= set(answer.releases)


def test_models_do_not_disturb_each_other(locked):
    locked.deploy("net", "v1", ONE)
    locked.deploy("other", "v9", TWO)
    assert [model.current for model in locked.ask(wire.ListReleases()).models] == ["v1", "v9"]
    assert locked.ask(wire.ListReleases("unknown")) == wire.ReleaseList()


def test_seal_refuses_what_is_not_whole(locked, root):
    files = files_of(ONE)
    staged = locked.ask(wire.Stage("net", "v1", files))
    seal = wire.Seal("net", "v1", staged.folder, files)
    assert locked.ask(seal).kind == "missing"
    for name, data in ONE.items():
        locked.put(f"{staged.folder}/{name}", data)
    folder = root / staged.folder
    (folder / "model.tflite").write_bytes(b"weights 0ne")
    assert locked.ask(seal).kind == "hash"
    (folder / "model.tflite").write_bytes(b"short")
    assert locked.ask(seal).kind == "hash"
    (folder / "model.tflite").unlink()
    (folder / "model.tflite").symlink_to("/etc/hostname")
    assert locked.ask(seal).kind == "io"
    (folder / "model.tflite").unlink()
    locked.put(f"{staged.folder}/model.tflite", ONE["model.tflite"])
    locked.put(f"{staged.folder}/extra", b"x")
    assert locked.ask(seal).kind == "refused"
    (folder / "extra").unlink()
    assert locked.ask(seal) == wire.Done()


def test_seal_refuses_a_folder_that_was_not_staged(locked):
    locked.deploy("net", "v1", ONE)
    for folder in ("models/net/releases/v1", "../x", "", "models/net/.staging-0"):
        assert locked.ask(wire.Seal("net", "v2", folder, files_of(ONE))).kind == "refused"


ODD_NAMES = ["", ".", "..", ".x", "-x", "a/b", "a\nb", "$(touch x)", "é", "a" * 65]


def test_odd_names_are_refused(locked, root):
    for name in ODD_NAMES:
        for request in (
            wire.Stage(name, "v1", files_of(ONE)),
            wire.Stage("net", name, files_of(ONE)),
            wire.Stage("net", "v1", files_of({name: b""})),
            wire.Commit(name, "v1"),
            wire.Rollback(name),
            wire.Discard(name, "v1", ""),
        ):
            assert locked.ask(request).kind == "refused", request
    assert not (root / "models").exists()


def test_changes_need_the_lock(agent):
    for request in (
        wire.Stage("net", "v1", files_of(ONE)),
        wire.Seal("net", "v1", "models/net/.staging-0", files_of(ONE)),
        wire.Commit("net", "v1"),
        wire.Discard("net", "v1", ""),
        wire.Rollback("net"),
    ):
        assert agent.ask(request).kind == "refused"
    assert agent.ask(wire.ListReleases()) == wire.ReleaseList()


def test_the_second_host_is_told_who_is_busy(start):
    first, second = start(), start()
    assert first.ask(wire.Lock("anna@laptop\n")) == wire.Done()
    answer = second.ask(wire.Lock("bert@desk"))
    assert answer.kind == "busy"
    assert answer.message.startswith("anna@laptop? since 20")
    first.ask(wire.Lock("anna again"))
    first.end()
    assert second.ask(wire.Lock("bert@desk")) == wire.Done()


def test_a_dead_session_holds_no_lock(start):
    first = start()
    first.ask(wire.Lock("anna"))
    first.kill()
    assert start().ask(wire.Lock("bert")) == wire.Done()


def test_an_interrupted_push_is_taken_over_by_the_next_stage(start, root):
    contents = {"big.bin": bytes(3 << 20), "golden.npz": b"golden"}
    files = files_of(contents)
    first = start()
    first.ask(wire.Lock("me"))
    staged = first.ask(wire.Stage("net", "v1", files))
    first.put(f"{staged.folder}/golden.npz", b"golden")
    first.ask(wire.Put(f"{staged.folder}/big.bin", 3 << 20, files[0].sha256))
    first.send(wire.Data(3 << 20), bytes(2 << 20))
    first.end()

    second = start()
    second.ask(wire.Lock("me"))
    again = second.ask(wire.Stage("net", "v1", files))
    assert again.missing == ("big.bin",)
    state = second.ask(wire.Put(f"{again.folder}/big.bin", 3 << 20, files[0].sha256))
    assert state.have_bytes == 2 << 20
    assert second.ask(wire.Data(1 << 20, 2 << 20), bytes(1 << 20)) == wire.Done()
    assert second.ask(wire.Seal("net", "v1", again.folder, files)) == wire.Done()
    assert sorted(path.name for path in (root / "models/net").iterdir()) == [
        "releases",
        "state.json",
    ]


def test_a_release_too_large_for_the_disk_is_refused_and_leaves_nothing(locked, root):
    files = (wire.File("model.tflite", files_of(ONE)[0].sha256, 1 << 60),)
    assert locked.ask(wire.Stage("net", "v1", files)).kind == "space"
    assert list((root / "models/net").glob(".staging-*")) == []


def test_the_lock_removes_old_staging_folders_and_damaged_state_does_no_harm(start, root):
    first = start()
    first.ask(wire.Lock("me"))
    first.deploy("net", "v1", ONE)
    staged = root / first.ask(wire.Stage("net", "v2", files_of(TWO))).folder
    first.end()
    (root / "models/net/state.json").write_bytes(b"{damaged")
    os.utime(staged, (1, 1))
    second = start()
    second.ask(wire.Lock("me"))
    assert not staged.exists()
    assert second.deploy("net", "v2", TWO).previous == "v1"


def test_a_current_that_dangles_is_no_release(locked, root):
    locked.deploy("net", "v1", ONE)
    shutil.rmtree(root / "models/net/releases/v1")
    assert locked.ask(wire.ListReleases("net")).models == (wire.Releases("net"),)
    assert locked.deploy("net", "v2", TWO).current == "v2"


def test_the_folder_is_the_users_own(locked, root):
    locked.deploy("net", "v1", ONE)
    assert root.stat().st_mode & 0o777 == 0o700
    for path in root.rglob("*"):
        assert path.is_symlink() or not path.stat().st_mode & 0o077, path
