import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edgeq.errors import HostError, UsageError
from edgeq.stores import sqlite

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / sqlite.FILE_NAME


def test_what_was_saved_comes_back_the_same(path):
    store = sqlite.make(path)
    raw = bytes(range(256)) * 50
    store.save("20261121-091500-3f9a", '{"a": "ü"}', raw)
    assert sqlite.make(path).load("20261121-091500-3f9a") == ('{"a": "ü"}', raw)


def test_the_last_saved_is_listed_first(path):
    store = sqlite.make(path)
    for number in range(5):
        store.save(f"run-{number}", str(number), b"")
    assert store.list(3) == ["4", "3", "2"]


def test_a_store_that_is_not_there_is_empty_and_is_not_made_by_looking(path):
    store = sqlite.make(path)
    assert store.list(10) == []
    with pytest.raises(UsageError, match="there is no run 'x'"):
        store.load("x")
    assert not path.parent.exists()


def test_a_run_is_found_by_its_beginning_or_its_last_part(path):
    store = sqlite.make(path)
    store.save("20261121-091500-3f9a", "first", b"")
    store.save("20261121-101500-77aa", "second", b"")
    assert store.load("20261121-09")[0] == "first"
    assert store.load("77aa")[0] == "second"
    with pytest.raises(UsageError) as caught:
        store.load("20261121")
    assert caught.value.hint == "20261121-101500-77aa, 20261121-091500-3f9a"
    for wrong in ("", "9a", "%", "2026112_", "zzz"):
        with pytest.raises(UsageError):
            store.load(wrong)


def test_a_whole_name_is_that_run_even_if_it_begins_another(path):
    store = sqlite.make(path)
    store.save("a", "short", b"")
    store.save("a-b", "long", b"")
    assert store.load("a")[0] == "short"


def test_a_name_is_taken_once(path):
    store = sqlite.make(path)
    store.save("a", "1", b"")
    with pytest.raises(HostError, match="already has a run"):
        store.save("a", "2", b"")
    assert store.load("a")[0] == "1"


def load_all(store, count):
    return [store.load(f"run-{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("damage", "seed"), [(b"not a database at all, " * 10, 0), (None, 1), (None, 2), (None, 3)]
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(path, damage, seed):
    store = sqlite.make(path)
    for number in range(50):
        store.save(f"run-{number}", "{}" * 500, os.urandom(2000))
    data = bytearray(path.read_bytes())
    if damage is None:
        data[4096:20000] = random.Random(seed).randbytes(20000 - 4096)
    else:
        data[: len(damage)] = damage
    path.write_bytes(data)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(HostError, match="is damaged") as caught:
        load_all(store, 50)
    assert f"mv {path}" in caught.value.hint
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_changed_report_or_sample_is_noticed(path):
    store = sqlite.make(path)
    store.save("a", '{"p50": 5.0}', b"raw")
    with sqlite3.connect(path) as connection:
        connection.execute("""UPDATE runs SET report = '{"p50": 4.0}'""")
    connection.close()
    with pytest.raises(HostError, match="does not have the hash"):
        store.load("a")


def test_a_newer_file_is_left_alone(path):
    store = sqlite.make(path)
    store.save("a", "{}", b"")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    for use in (lambda: store.load("a"), lambda: store.save("b", "{}", b"")):
        with pytest.raises(HostError, match="written by a newer edgeq") as caught:
            use()
        assert "pip install -U edgeq" in caught.value.hint


def test_another_programs_database_is_left_alone(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(HostError, match="another program's database"):
        sqlite.make(path).save("a", "{}", b"")


def test_an_empty_file_as_a_kill_may_leave_it_is_a_new_store(path):
    path.parent.mkdir()
    path.touch()
    store = sqlite.make(path)
    assert store.list(5) == []
    store.save("a", "{}", b"x")
    assert store.load("a") == ("{}", b"x")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot open the store"):
        sqlite.make(tmp_path / "file" / "runs.sqlite").save("a", "{}", b"")


def test_a_place_that_is_a_folder_is_an_error(tmp_path):
    with pytest.raises(HostError, match="cannot write the store") as caught:
        sqlite.make(tmp_path).save("a", "{}", b"")
    assert "EDGEQ_HOME" in caught.value.hint


def test_a_full_disk_is_an_error_and_the_earlier_runs_stay(path):
    store = sqlite.make(path)
    store.save("a", "{}", b"first")
    script = textwrap.dedent(
        """
        import os, resource, signal, sys
        from pathlib import Path
        from edgeq.errors import HostError
        from edgeq.stores import sqlite
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            sqlite.make(Path(sys.argv[1])).save("b", "{}", os.urandom(1 << 20))
        except HostError as error:
            print(error.message)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(path) in done.stdout
    assert store.load("a") == ("{}", b"first")
    with pytest.raises(UsageError):
        store.load("b")


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from edgeq.stores import sqlite
    store = sqlite.make(Path(sys.argv[1]))
    for number in range(int(sys.argv[3])):
        store.save(f"{sys.argv[2]}-{number:06d}", "{}", bytes(5000))
        print(number, flush=True)
    """
)


def writer(path, name, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_writers_at_once_lose_nothing(path):
    both = [writer(path, name, 40) for name in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]
    for process in both:
        process.stdout.close()
    assert len(sqlite.make(path).list(1000)) == 80


def test_a_writer_that_is_killed_leaves_whole_runs_and_no_lock(path):
    process = writer(path, "one", 1_000_000)
    seen = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().splitlines()
    process.wait(30)
    process.stdout.close()
    store = sqlite.make(path)
    told = len(seen) + len([line for line in rest if line])
    assert told <= len(store.list(1_000_000)) <= told + 1
    assert store.load("one-000019")[1] == bytes(5000)
    store.save("after", "{}", b"")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
