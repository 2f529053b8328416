"""Power cuts between any two writes of an installation's disk: old or new, never between.

The machine's second disk keeps a record of what it was told to write, and in which order. From it
the disk is rebuilt as it was after each single write; the host lets ext4 repair it as after any
power cut, and looks at what the device would serve.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq import wire
from edgeq.agent.durable import Disk
from edgeq.agent.install import Installer
from edgeq.archive import agent_archive
from tests.device import blocklog
from tests.device.guest import installing
from tests.lab import qemu

DISK_BYTES = 24 << 20
FAKE_HOST = Path(__file__).parents[1] / "fakes" / "agent.py"
LEFTOVERS = re.compile(r"\.(link|state|trash|staging|unpack)-")
# What the kernel would write by itself stays in memory: the disk has what was asked for by a sync.
MOUNT = (
    "sysctl -qw vm.dirty_writeback_centisecs=0 vm.dirty_expire_centisecs=360000;"
    " mkdir -p /data; mount -t ext4 -o commit=1000,noauto_da_alloc /dev/vdb /data"
)


# Up to each mark: what may be served after any write, the last one being what must be at the mark.
STEPS = {"deployed": (1, 2), "rolled back": (2, 1), "discarded": (1, 2), "unpacked": (2,)}


@dataclass
class Logged:
    """A machine with the disk and its log."""

    machine: object
    disk: Path
    log: Path

    def install(self, mutant="none"):
        """Run the installations; the changes up to each mark."""
        command = f"python3 -B installing.py agent.pyz /data/{mutant} {mutant}"
        marks = []
        with subprocess.Popen(
            [*self.machine.ssh_command(), command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        ) as process:  # fmt: skip
            for line in process.stdout:
                self.machine.freeze()
                marks.append((line.strip(), len(blocklog.changes(self.log))))
                self.machine.thaw()
                process.stdin.write("\n")
                process.stdin.flush()
        assert process.returncode == 0
        return marks


def rebuild(base, changes, folder):
    """Gives the disks as they were after each write of a range, repaired and unpacked."""

    def states(start, end):
        image = bytearray(base)
        for number, change in enumerate(changes[:end]):
            image[change.offset : change.offset + len(change.data)] = change.data
            if number >= start - 1 and (change.data or number == end - 1):
                yield number, unpack(image, folder)

    return states


def unpack(image, folder):
    raw, tree = folder / "cut.raw", folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    raw.write_bytes(image)
    repaired = subprocess.run(["e2fsck", "-fy", raw], capture_output=True, check=False)
    assert repaired.returncode in (0, 1), repaired.stdout
    dump = ["debugfs", "-R", f"rdump / {tree}", raw]
    subprocess.run(dump, capture_output=True, check=True)
    return tree


def served(root, link="current"):
    """The number of the release that a link leads to, whose every byte is as it should be."""
    folder = root / "models/net" / link
    if not folder.is_symlink():
        return None
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = [number for number in (0, 1, 2) if contents == installing.release(number)]
    assert found, f"{link} is no release: { {n: len(c) for n, c in contents.items()} }"
    return found[0]


def check(root, allowed):
    """What a device with this disk serves, before and after the agent has tidied up."""
    before = served(root)
    assert before in allowed
    Installer(root, Disk()).recover()
    assert served(root) == before
    assert served(root, "previous") != before
    (listed,) = Installer(root, Disk()).list(wire.ListReleases()).models
    assert listed.current == f"v{before}"
    loose = [path.name for path in (root / "models").rglob("*") if LEFTOVERS.match(path.name)]
    assert all(name.startswith(".staging-") for name in loose)  # for the next push to go on with
    return before


def check_runtime(root):
    """A runtime is there as a whole or not at all."""
    folder = root / "runtimes/parts"
    if not folder.is_dir():
        return False
    files = [path for path in folder.rglob("*") if path.is_file()]
    text = {path.name: path.read_text() for path in files}
    assert text == installing.PARTS
    return True


@pytest.fixture(scope="module")
def logged(tmp_path_factory, module_machines):
    folder = tmp_path_factory.mktemp("logged")
    disk, log = folder / "disk.raw", folder / "log"
    log.touch()
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    make = ["mke2fs", "-q", "-t", "ext4", "-J", "size=4", "-E", "root_owner=1000:1000"]
    subprocess.run([*make, disk], check=True)
    shutil.copyfile(disk, folder / "base.raw")
    machine = module_machines.up("pi4")
    machine.kill()
    command = qemu.command(
        machine._setting(), machine.folder, port=machine.port, memory=qemu.Memory()
    )
    qemu.start([*command, *blocklog.options(disk, log)])
    machine.wait()
    machine.root(MOUNT)
    (folder / "agent.pyz").write_bytes(agent_archive())
    for path in (folder / "agent.pyz", FAKE_HOST, Path(installing.__file__)):
        send(machine, path)
    return Logged(machine, folder / "base.raw", log)


def send(machine, path):
    command = [*machine.ssh_command(), f"cat > {path.name}"]
    subprocess.run(command, input=path.read_bytes(), check=True)


def problems(logged, mutant, folder):
    """What is wrong after which write, over all writes from the first mark to the last."""
    (_, start), *steps = logged.install(mutant)
    assert [name for name, _ in steps] == list(STEPS)
    found, seen = [], set()
    states = rebuild(logged.disk.read_bytes(), blocklog.changes(logged.log), folder)
    for number, tree in states(start, steps[-1][1]):
        name = next(name for name, end in steps if number < end)
        wanted = STEPS[name][-1:] if (name, number + 1) in steps else STEPS[name]
        try:
            seen.add((name, check(tree / mutant, wanted)))
            whole = check_runtime(tree / mutant)
            assert whole or name != "unpacked" or number + 1 < steps[-1][1], "not unpacked"
        except (AssertionError, OSError) as error:
            found.append(f"{name}, write {number}: {error}")
    return found, seen


def test_a_power_cut_at_any_write_leaves_old_or_new(logged, tmp_path):
    found, seen = problems(logged, "none", tmp_path)
    assert found == []
    assert seen == {(name, number) for name, allowed in STEPS.items() for number in allowed}


@pytest.mark.long
@pytest.mark.parametrize("mutant", ["files", "all"])
def test_an_installer_that_does_not_sync_is_caught(logged, tmp_path, mutant):
    """The test of the test above."""
    found, _ = problems(logged, mutant, tmp_path)
    assert found
