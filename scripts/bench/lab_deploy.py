"""What the first and the second `edgeq deploy` to an emulated board cost, step by step.

python scripts/bench/lab_deploy.py [BOARD]

A machine of the lab is started, the example model is converted beforehand, so that the time is the
device's and the link's. In the same run the stock scp copies as many bytes as the first deploy
sent, and the stock ssh starts Python once: on a busy computer all of them are slow alike, and the
ratio stays. An emulator's clock goes with the computer's; the CPU time of the emulator's process
is given beside.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.device.someone import Someone, someone  # noqa: E402
from tests.lab import lab  # noqa: E402
from tests.lab.machine import Machine  # noqa: E402

MODEL = ROOT / "examples" / "digits" / "digits_cnn.h5"
FIRST_LIMIT_S, SECOND_LIMIT_S = 60.0, 10.0
QUICK = ("--runs", "64", "--duration", "0")


def main(board: str) -> int:
    machine = lab.up(f"bench-{os.getpid()}", board)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(machine, someone(Path(folder)), Path(folder))
    finally:
        machine.down()


def _measure(machine: Machine, user: Someone, folder: Path) -> int:
    print(f"{machine.board}; load of this computer {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs")
    model = folder / "digits.edgeq"
    _run(user, "convert", MODEL, "--device", machine.profile, "-o", model)
    user.add(machine, "bench", machine.profile)
    # The wheels are fetched from their index before the clock runs.
    _run(user, "deploy", "--device", "bench", model, "--dry-run")
    seconds: dict[str, float] = {}
    sent_bytes = 0
    for number, name in enumerate(("first deploy", "second deploy")):
        report = folder / f"{number}.json"
        with _clock(machine, name, seconds):
            _run(user, "deploy", "--device", "bench", model, *QUICK, "--json", report)
        steps = json.loads(report.read_text())["timings_s"]
        print("    " + ", ".join(f"{step} {took:.1f}" for step, took in steps.items() if took))
        if not number:
            sent_bytes = json.loads(report.read_text())["transfer"]["bytes_sent"]
    blob = folder / "blob"
    blob.write_bytes(os.urandom(sent_bytes))
    with _clock(machine, f"scp of {sent_bytes / 2**20:.1f} MiB", seconds):
        _scp(machine, blob)
    with _clock(machine, "ssh python3 -c pass", seconds):
        machine.ssh("python3 -c pass", timeout_s=300)
    first, second, plain, start = seconds.values()
    print(f"first deploy {first / (plain + start):.1f} times scp and ssh of the same bytes")
    print(f"second deploy {second / start:.1f} times ssh python3 -c pass")
    print(f"limits {FIRST_LIMIT_S:.0f} s and {SECOND_LIMIT_S:.0f} s on a quiet computer")
    return int(first > FIRST_LIMIT_S or second > SECOND_LIMIT_S)


@contextmanager
def _clock(machine: Machine, name: str, seconds: dict[str, float]) -> Iterator[None]:
    start, cpu = time.perf_counter(), _cpu_s(machine)
    yield
    seconds[name] = time.perf_counter() - start
    print(
        f"{name}: {seconds[name]:.1f} s, emulator's CPU {_cpu_s(machine) - cpu:.1f} s", flush=True
    )


def _cpu_s(machine: Machine) -> float:
    stat = Path(f"/proc/{machine.pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run(user: Someone, *words: object) -> None:
    done = user.run(*words)
    if done.returncode:
        raise SystemExit(done.stderr)


def _scp(machine: Machine, blob: Path) -> None:
    # ssh's own words, with scp's -P for the port
    ssh = machine.ssh_command()
    host = ssh[-1]
    options = ["-P" if word == "-p" else word for word in ssh[1:-1]]
    subprocess.run(["scp", "-q", *options, str(blob), f"{host}:blob"], check=True, timeout=600)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "pi4"))
