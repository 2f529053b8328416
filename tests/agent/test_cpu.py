from pathlib import Path

from edgeq.agent import cpu, memory

STAT = "{pid} ({name}) S 1 1 1 0 -1 4194560 0 0 0 0 {user} {system} 0 0 20 0 1 0 {start} 0 0\n"


def tree(root, name, **processes):
    """A /proc with processes (name, user ticks, system ticks, start time)."""
    folder = root / name / "proc"
    for pid, (program, user, system, start) in processes.items():
        entry = folder / pid[1:]
        entry.mkdir(parents=True)
        text = STAT.format(pid=pid[1:], name=program, user=user, system=system, start=start)
        (entry / "stat").write_text(text)
    folder.mkdir(parents=True, exist_ok=True)
    return root / name


def test_busy_time_leaves_out_idle_and_waiting(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  100 10 50 1000 200 5 5 30 77 0\ncpu0 1 1 1 1\n")
    times = cpu.times(tmp_path)
    assert times == cpu.CpuTimes(busy=200, total=1400, steal=30)
    assert times.since(cpu.CpuTimes(busy=100, total=400)) == (1.0, 10.0)


def test_an_unreadable_stat_is_unknown(tmp_path):
    assert cpu.times(tmp_path) is None


def test_contenders_are_named_by_what_they_used_meanwhile(tmp_path):
    before = tree(
        tmp_path, "before", p1=("init", 500, 0, 1), p7=("old", 10, 0, 5), p9=("a) b", 0, 0, 9)
    )
    after = tree(
        tmp_path,
        "after",
        p1=("init", 500, 2, 1),
        p7=("reused", 30, 10, 99),
        p8=("cc1", 400, 100, 50),
        p9=("a) b", 100, 100, 9),
    )
    found = cpu.contenders(cpu.processes(before), cpu.processes(after), 2.0)
    assert found == ("cc1", "a) b", "reused")


def test_this_process_and_nonsense_are_no_contenders(tmp_path):
    root = tree(tmp_path, "proc")
    entry = root / "proc" / "77"
    entry.mkdir()
    (entry / "stat").write_text("77 (torn")
    assert cpu.processes(root) == {}
    assert cpu.processes(Path("/"))


def test_memory_is_read_in_bytes_and_unknown_is_none(tmp_path):
    folder = tmp_path / "proc/self"
    folder.mkdir(parents=True)
    (folder / "status").write_text("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    (folder / "smaps_rollup").write_text("00400000-7ff [rollup]\nRss: 900 kB\nPss:  512 kB\n")
    assert memory.status_bytes("VmHWM", tmp_path) == 2048 << 10
    assert memory.pss_bytes(tmp_path) == 512 << 10
    (folder / "smaps_rollup").unlink()
    assert memory.pss_bytes(tmp_path) is None
