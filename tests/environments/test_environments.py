import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgeq import environments, packages, steps, worker
from edgeq.core.model import FloatModel, Source
from edgeq.errors import FetchError, HostError, UsageError, WorkerError
from edgeq.ports import Recipe

ROOT = Path(__file__).resolve().parents[2]


def imported(python, module="tiny"):
    """Its version there; None when it cannot be imported."""
    code = f"import {module}; print({module}.VERSION)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def test_an_environment_holds_the_listed_packages_and_is_built_once(workshop):
    seen = []
    python = workshop.ensure(on_progress=lambda *step: seen.append(step))
    assert imported(python) == "1.0"
    assert seen[0][0] == "make tiny, once, 1 MiB"
    done, total = seen[-1][1:]
    assert 0 < done == total
    said = workshop.log.read_text()
    assert workshop.ensure(on_progress=lambda *_: pytest.fail("built again")) == python
    assert workshop.log.read_text() == said
    (one,) = workshop.installed()
    assert (one.name, one.complete, one.current, one.packages) == ("tiny", True, True, 1)
    assert one.size_bytes > 10_000
    assert one.python == "{}.{}".format(*sys.version_info)


def test_another_list_is_another_environment_and_the_old_one_is_shown_as_such(workshop):
    first = workshop.ensure()
    before = environments.fingerprint("tiny", lists=workshop.lists)
    workshop.list("tiny", workshop.wheel("tiny", "2.0"))
    assert environments.fingerprint("tiny", lists=workshop.lists) != before
    second = workshop.ensure()
    assert (imported(first), imported(second)) == ("1.0", "2.0")
    assert sorted(one.state for one in workshop.installed()) == ["of another edgeq", "ready"]


def test_what_an_interrupted_build_left_is_cleared_by_the_next_use(workshop):
    python = workshop.ensure()
    folder = python.parent.parent
    (folder / "edgeq-environment.json").unlink()
    (folder / "rubbish").touch()
    (one,) = workshop.installed()
    assert (one.state, one.created, one.packages) == ("interrupted", None, None)
    assert workshop.ensure() == python
    assert not (folder / "rubbish").exists()
    assert imported(python) == "1.0"


def test_ctrl_c_stops_pip_and_leaves_nothing_that_counts(workshop):
    def stop(_phase, done, _total):
        if done or _total:
            raise KeyboardInterrupt

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(KeyboardInterrupt):
        workshop.ensure(on_progress=stop)
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert after <= before
    assert [one.state for one in workshop.installed()] == ["interrupted"]
    assert imported(workshop.ensure()) == "1.0"


def test_a_kill_in_the_midst_is_mended_by_the_next_use(workshop):
    with building(workshop, "print('begun', flush=True)") as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    assert imported(workshop.ensure()) == "1.0"


def test_two_at_once_build_it_once(workshop):
    with building(workshop, "") as one, building(workshop, "") as two:
        assert [one.wait(), two.wait()] == [0, 0]
        ends = [process.stdout.read().splitlines()[-1] for process in (one, two)]
    assert ends[0] == ends[1]
    assert workshop.log.read_text().count("Successfully installed") == 1


def test_a_package_with_another_hash_is_refused(workshop):
    workshop.wheel("tiny", needs=("other",))
    with pytest.raises(HostError, match="not the one that edgeq was tested with"):
        workshop.ensure()
    assert [one.state for one in workshop.installed()] == ["interrupted"]


def test_a_package_that_is_nowhere_is_named(workshop):
    workshop.list("tiny", f"lacking==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(HostError, match=r"Python 3\.\d+ cannot be built here: .*lacking==1.0"):
        workshop.ensure()


def test_no_network_says_so(workshop, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    # port 9 of this machine takes no connections
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(FetchError, match="could not be fetched") as caught:
        workshop.ensure()
    assert "online" in caught.value.hint


def test_a_full_disk_is_told_before_anything_is_made(workshop):
    workshop.list("tiny", workshop.wheel("tiny"), header="# python >=3.11\n# size 999999999\n")
    with pytest.raises(HostError, match=r"needs 1499999998 MiB, and .* has \d+ free"):
        workshop.ensure()
    assert workshop.installed() == ()


def test_a_better_build_is_taken_where_pip_finds_it(workshop):
    better = workshop.wheel("tiny", "1.0+cpu")
    workshop.list("tiny-cpu", better, header="")
    assert imported(workshop.ensure()) == "1.0+cpu"


def test_a_better_build_that_is_nowhere_is_done_without(workshop):
    nowhere = f"tiny==1.0+cpu \\\n    --hash=sha256:{'0' * 64}\n"
    workshop.list("tiny-cpu", nowhere, header="")
    assert imported(workshop.ensure()) == "1.0"


@pytest.mark.parametrize(
    ("needs", "there"),
    [((), None), (("extra",), "1.0"), (('extra; sys_platform == "win32"',), None)],
    ids=["not needed", "needed", "needed elsewhere"],
)
def test_extra_packages_are_installed_only_where_something_needs_them(workshop, needs, there):
    workshop.list("tiny", workshop.wheel("tiny", needs=needs))
    workshop.list("tiny-cuda", workshop.wheel("extra"))
    assert imported(workshop.ensure(), "extra") == there


def test_the_users_own_packages_and_pip_settings_do_not_leak_in(workshop, monkeypatch):
    other = workshop.root / "other"
    (other / "tiny-1.0.dist-info").mkdir(parents=True)
    (other / "tiny-1.0.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", str(other))
    monkeypatch.setenv("PIP_TARGET", str(workshop.root / "elsewhere"))
    monkeypatch.setenv("PIP_USER", "1")
    python = workshop.ensure()
    monkeypatch.delenv("PYTHONPATH")
    assert imported(python) == "1.0"


def test_remove_deletes_one_by_name(workshop):
    python = workshop.ensure()
    workshop.list("second", workshop.wheel("second"))
    workshop.ensure("second")
    (removed,) = environments.remove(workshop.places, "tiny", lists=workshop.lists)
    assert removed.name == "tiny"
    assert not python.parent.parent.exists()
    assert [one.name for one in workshop.installed()] == ["second"]
    assert imported(workshop.ensure()) == "1.0"
    assert len(environments.remove(workshop.places, None, lists=workshop.lists)) == 2
    assert list((workshop.places.cache / "environments").iterdir()) == []


def test_remove_of_an_unknown_name_shows_those_that_are_there(workshop):
    workshop.ensure()
    with pytest.raises(UsageError, match="no environment 'tinny'") as caught:
        environments.remove(workshop.places, "tinny", lists=workshop.lists)
    assert caught.value.hint == "there are: tiny"


def test_one_in_use_is_not_removed(workshop):
    python = workshop.ensure()
    process = subprocess.Popen([python, "-c", "import time; time.sleep(60)"])
    try:
        wait_for_start(process)
        with pytest.raises(HostError, match=f"in use by process {process.pid}"):
            environments.remove(workshop.places, "tiny", lists=workshop.lists)
    finally:
        process.kill()
        process.wait()
    assert imported(python) == "1.0"


def test_one_whose_python_is_gone_is_built_again(workshop):
    python = workshop.ensure()
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert workshop.installed()[0].state == "interrupted"
    assert imported(workshop.ensure()) == "1.0"


def test_the_commands_list_and_remove(workshop):
    workshop.ensure()
    listed = edgeq(workshop, "environments", "list")
    assert re.search(r"^tiny +3\.\d+ +1 +\d+ MiB +of another edgeq +/", listed, re.MULTILINE)
    assert '"name": "tiny"' in edgeq(workshop, "environments", "list", "--json")
    assert edgeq(workshop, "environments", "remove", "tiny").startswith("removed tiny, ")
    assert "there are no environments yet" in edgeq(workshop, "environments", "list")
    assert "--all" in edgeq(workshop, "environments", "remove", status=2)


def test_a_worker_elsewhere_finds_edgeq_and_nothing_else_of_this_environment(workshop, tmp_path):
    python = workshop.ensure()
    source = Source(path=tmp_path, name="x", kind="onnx", sha256="", size_bytes=0)
    pivot = FloatModel(
        path=tmp_path, format="onnx", sha256="", source=source, inputs=(), outputs=(),
        check_samples=0, check_max_abs_diff=0.0,
    )  # fmt: skip
    request = steps.QuantizeRequest(
        pivot=pivot, recipe=Recipe(precision="int8"), calibration=None, folder=tmp_path
    )
    log = tmp_path / "log"
    with pytest.raises(WorkerError, match=r"No module named 'pydantic'"):
        worker.call(steps.quantize, request, log=log, python=python)
    assert "No module named 'pydantic'" in log.read_text()
    assert str(ROOT / "edgeq") not in log.read_text().splitlines()[-1]


def test_every_package_of_every_list_is_pinned_and_hashed_and_no_index_is_named():
    for path in sorted(packages.LISTS.glob("*.txt")):
        text = path.read_text()
        assert "://" not in text
        blocks = [block for block in re.split(r"\n(?=[A-Za-z])", text) if "==" in block]
        assert len(blocks) == len(re.findall(r"^[A-Za-z][^\n]*==", text, re.MULTILINE))
        for block in blocks:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}$", block, re.MULTILINE), block
    for name in packages.names():
        found = packages.find(name)
        assert len(found.main.packages) > 5
        assert found.main.size_mib > 100
        assert "pydantic" in dict(found.main.packages)


def building(workshop, begun):
    """edgeq in another process, building ``tiny``; ``begun`` is run at the first progress."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeq import environments, places\n"
        f"where = places.find({{'EDGEQ_HOME': {str(workshop.root / 'home')!r}}})\n"
        "def progress(*_):\n"
        f"    {begun or 'pass'}\n"
        f"lists = Path({str(workshop.lists)!r})\n"
        "print(environments.ensure('tiny', where, progress, lists=lists))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def wait_for_start(process):
    """Until the child has replaced its parent's program."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if "time.sleep" in "".join(psutil.Process(process.pid).cmdline()):
            return
        time.sleep(0.01)


def edgeq(workshop, *words, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", *words],
        env={**os.environ, "EDGEQ_HOME": str(workshop.root / "home"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + (done.stderr if status else "")
