import os
import threading
import time

import pytest

from edgeq.cache import Cache
from edgeq.errors import HostError, ModelError


def writes(text):
    def make(folder):
        (folder / "file").write_text(text)

    return make


def fails(folder):
    (folder / "half").write_text("x")
    raise ModelError("no")


def never(folder):
    raise AssertionError(f"{folder} is made again")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_an_entry_is_made_once(cache):
    first = cache.entry("kind", {"a": 1}, writes("one"))
    second = cache.entry("kind", {"a": 1}, never)
    assert (first.cached, second.cached) == (False, True)
    assert (second.folder / "file").read_text() == "one"


def test_other_parts_or_another_kind_are_another_entry(cache):
    folders = {
        cache.entry(kind, parts, writes("x")).folder
        for kind in ("one", "two")
        for parts in ({"a": 1}, {"a": "1"}, {"a": None}, {"b": 1})
    }
    assert len(folders) == 8


def test_a_failure_leaves_nothing_and_is_tried_again(cache):
    with pytest.raises(ModelError):
        cache.entry("kind", {}, fails)
    assert list((cache.root / "kind").iterdir()) == []
    assert not cache.entry("kind", {}, writes("x")).cached


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "index"])
def test_a_damaged_entry_is_made_again(cache, damage):
    entry = cache.entry("kind", {}, writes("whole"))
    match damage:
        case "flip":
            (entry.folder / "file").write_text("Whole")
        case "truncate":
            (entry.folder / "file").write_text("")
        case "delete":
            (entry.folder / "file").unlink()
        case "index":
            (entry.folder / "entry.json").write_text("{")
    again = cache.entry("kind", {}, writes("whole"))
    assert not again.cached
    assert (again.folder / "file").read_text() == "whole"
    assert cache.entry("kind", {}, never).cached


def test_two_at_once_both_get_a_whole_entry(cache):
    barrier = threading.Barrier(2)
    found = []

    def make(folder):
        barrier.wait(timeout=10)
        (folder / "file").write_text("same")

    def run():
        found.append((cache.entry("kind", {}, make).folder / "file").read_text())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["same", "same"]
    assert len(list((cache.root / "kind").iterdir())) == 1


def test_prune_drops_what_was_not_used_for_a_month(cache):
    old = cache.entry("kind", {"a": 1}, writes("x")).folder
    used = cache.entry("kind", {"a": 2}, writes("x")).folder
    left = cache.root / "kind" / ".making-x"
    left.mkdir()
    others = cache.root / "wheels" / "numpy"
    others.mkdir(parents=True)
    now_s = time.time()
    for folder in (old, used, left, others):
        os.utime(folder, (now_s - 31 * 86400,) * 2)
    cache.entry("kind", {"a": 2}, never)
    assert cache.prune(now_s) == 2
    assert used.exists()
    assert others.exists()
    assert not old.exists()
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot write the cache"):
        Cache(tmp_path / "file").entry("kind", {}, writes("x"))


def test_a_bug_keeps_its_own_error(cache):
    def make(folder):
        (folder / "missing").read_text()

    with pytest.raises(FileNotFoundError):
        cache.entry("kind", {}, make)
