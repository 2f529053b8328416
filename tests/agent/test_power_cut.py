"""SIGKILL at every write, sync and rename: the device serves the old or the new release, whole."""

import shutil

import pytest

from edgeq import wire

OLD = {"model.tflite": b"old weights", "golden.npz": b"golden", "manifest.json": b"{old}"}
NEW = {"model.tflite": b"new weights", "golden.npz": b"golden", "manifest.json": b"{new}"}
OLDER = {"model.tflite": b"older weights", "manifest.json": b"{older}"}


def served(root, link="current"):
    folder = root / "models/net" / link
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def set_up(start):
    agent = start()
    agent.ask(wire.Lock("before"))
    agent.deploy("net", "v0", OLDER)
    agent.deploy("net", "v1", OLD)
    agent.end()


def deploy(agent):
    agent.deploy("net", "v2", NEW)


def discard(agent):
    agent.ask(wire.Discard("net", "v1", "parity"))


def roll_back(agent):
    agent.ask(wire.Rollback("net"))


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [(deploy, OLD, NEW), (roll_back, OLD, OLDER), (discard, OLD, OLDER)],
    ids=["deploy", "rollback", "discard"],
)
@pytest.mark.timeout(300)
def test_a_kill_at_any_moment_leaves_old_or_new(start, root, tmp_path, change, old, new):
    ends = []
    set_up(start)
    models, snapshot = root / "models", tmp_path / "snapshot"
    models.rename(snapshot)
    for fault_at in range(1, 200):
        shutil.copytree(snapshot, models, symlinks=True)
        agent = start(EDGEQ_FAULT_AT=str(fault_at))
        try:
            agent.ask(wire.Lock("the one that is cut"))
            change(agent)
        except (EOFError, BrokenPipeError):
            cut = True
        else:
            cut = False
        agent.kill()
        ends.append(served(root))
        assert ends[-1] in (old, new), f"torn at change {fault_at}"
        _check_recovery(start, root, ends[-1])
        shutil.rmtree(models)
        if not cut:
            break
    assert ends[0] == old
    assert ends[-1] == new
    assert len(ends) > 10


def _check_recovery(start, root, before):
    """The next session finds no loose ends, serves the same, and can deploy."""
    agent = start()
    assert agent.ask(wire.Lock("after")) == wire.Done()
    assert served(root) == before
    (releases,) = agent.ask(wire.ListReleases()).models
    assert releases.previous != releases.current
    if (root / "models/net/previous").is_symlink():
        assert served(root, "previous") in (OLDER, OLD, NEW)
    answer = agent.deploy("net", "v2", NEW)
    assert answer.current == "v2"
    assert served(root) == NEW
    loose = [path.name for path in (root / "models/net").iterdir() if path.name.startswith(".")]
    assert loose == []
    agent.end()
