"""Throughput of a push with its check on the device, against scp's of the same file, in turns.

usage: push.py [--sizes MIB,MIB] [--rounds N]

The device is an OpenSSH server of this machine's on loopback. Both sides count from an unconnected
host to a file that is whole on the device; edgeq's figure has the agent's start, the SHA-256 check
and the sync to the disk in it, scp's has none of them.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeq import examination
from edgeq.archive import agent_archive, examine_script
from edgeq.core.machine import Facts
from edgeq.session import open_session
from edgeq.transports import ssh
from tests.servers import sshd

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="25,250", help="MiB, separated by commas")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    options = sshd.Options(sftp=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        sshd.running(Path(folder) / "sshd", options) as server,
    ):
        for size_mib in map(int, arguments.sizes.split(",")):
            compare(server, Path(folder), size_mib, arguments.rounds)


def compare(server: sshd.Server, folder: Path, size_mib: int, rounds: int) -> None:
    """Print the medians of both, and the ratio of throughputs."""
    source = folder / "payload"
    source.write_bytes(os.urandom(size_mib * MIB))
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    facts = prepared(server)
    ours, theirs = [], []
    for number in range(rounds):
        ours.append(push(server, facts, source, sha256, f"runtimes/push-{number}"))
        theirs.append(scp(server, source))
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"{size_mib:4d} MiB: edgeq {mine:.3f} s ({size_mib / mine:.0f} MiB/s),"
        f" scp {other:.3f} s ({size_mib / other:.0f} MiB/s), ratio {other / mine:.2f},"
        f" {rounds} rounds"
    )


def prepared(server: sshd.Server) -> Facts:
    """The device's facts, with the agent already there, as from the second push on."""
    link = ssh.make().connect(server.device())
    agent = agent_archive()
    facts = examination.examine(link, examine_script(), sys.executable, "bench")
    open_session(link, facts, python=sys.executable, agent=agent, where="bench").close()
    link.close()
    return facts.model_copy(update={"agents": (hashlib.sha256(agent).hexdigest(),)})


def push(server: sshd.Server, facts: Facts, source: Path, sha256: str, place: str) -> float:
    """Seconds for connect, agent, file and check."""
    agent = agent_archive()
    start = time.perf_counter()
    link = ssh.make().connect(server.device())
    session = open_session(link, facts, python=sys.executable, agent=agent, where="bench")
    session.put(place, source, sha256)
    seconds = time.perf_counter() - start
    session.close()
    link.close()
    (server.home / ".edgeq" / place).unlink()
    return seconds


def scp(server: sshd.Server, source: Path) -> float:
    """Seconds for scp as it comes, without a check."""
    target = server.home / "scp"
    command = ["scp", "-q", "-i", str(server.identity), "-P", str(server.port)]
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    start = time.perf_counter()
    subprocess.run(
        [*command, *options, "-o", "LogLevel=ERROR", str(source), f"127.0.0.1:{target}"],
        check=True,
    )
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


if __name__ == "__main__":
    main()
