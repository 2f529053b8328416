"""Runs in the machine: installs with the real agent, and stops at marks for the host to look.

    python3 installing.py AGENT.pyz ROOT MUTANT

At a mark it prints a line and goes on when it has read one. The host imports this file too, to know
what the releases hold. ``agent.py`` of tests/fakes lies beside it in the machine.
"""

import io
import random
import sys
import zipfile
from pathlib import Path

_AGENT = """
import os, runpy, stat, sys
sync = os.fsync
def careless(descriptor):
    if {folders_too} or stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    sync(descriptor)
os.fsync = careless
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MUTANTS = {
    "none": [],
    "files": ["-c", _AGENT.format(folders_too=False)],  # the contents are not synced
    "all": ["-c", _AGENT.format(folders_too=True)],  # nothing is
}
PARTS = {f"part{number}.py": f"part {number}\n" * 500 for number in range(20)}


def release(number):
    """Contents that differ from one release to the next but for one file."""
    noise = random.Random(number)
    return {
        "model.tflite": noise.randbytes(300_000),
        "golden.npz": b"golden" * 1000,
        "manifest.json": f"release {number}".encode(),
    }


def runtime():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in PARTS.items():
            archive.writestr(f"package/{name}", text)
    return buffer.getvalue()


def mark(name):
    sys.stdout.write(name + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main(archive, root, mutant):
    sys.path.insert(0, str(archive))
    import agent as agents

    from edgeq import wire

    def must(answer, wanted):
        assert type(answer) is wanted, answer

    agent = agents.start(archive, root, sys.executable, *MUTANTS[mutant])
    agent.receive()
    must(agent.ask(wire.Lock("a test")), wire.Done)
    for number in (0, 1):
        agent.deploy("net", f"v{number}", release(number))
    mark("before")
    agent.deploy("net", "v2", release(2))
    mark("deployed")
    must(agent.ask(wire.Rollback("net")), wire.Releases)
    mark("rolled back")
    must(agent.ask(wire.Discard("net", "v1", "parity")), wire.Releases)
    mark("discarded")
    must(agent.put("runtimes/parts.zip", runtime()), wire.Done)
    must(agent.ask(wire.Unpack("runtimes/parts.zip", "runtimes/parts")), wire.Done)
    mark("unpacked")
    agent.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
