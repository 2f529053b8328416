"""What the agent's sampler costs at 100 Hz on six files, and whether the model's p50 feels it.

python scripts/bench/sampler.py [MODEL.tflite]

The files are six of sysfs, which the kernel writes anew at each reading. Cost: CPU time of the
sampler's thread by wall time, in turns with psutil's own way to read a file (open, read, close) at
the same rate, and with a loop that only wakes up: no sampler can go below that.

p50: a process runs the model while its parent waits, as the agent does: without a sampler, with it
in a thread of the parent, and with it in a process of its own, in turns that alternate (ABC, CBA,
...). What two runs without a sampler differ by is the noise.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from edgeq import wire
from edgeq.agent.ports import Raw, Sensor
from edgeq.agent.sampler import Sampler

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/data/badly_scaled/badly_scaled.tflite"
FILES = [
    Path("/sys/class/net/lo") / name
    for name in ("mtu", "tx_queue_len", "flags", "ifindex", "operstate", "carrier")
]
HZ = 100.0
LIMIT = 0.015
COST_ROUNDS, COST_S = 6, 5.0
ROUNDS, RUN_S = 16, 1.5
LOOP = """
import gc, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
for detail in interpreter.get_input_details():
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
end = time.monotonic() + 0.3
while time.monotonic() < end:
    interpreter.invoke()
print("ready", flush=True)
sys.stdin.readline()
gc.disable()
times, end = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    start = time.perf_counter_ns()
    interpreter.invoke()
    times.append(time.perf_counter_ns() - start)
print(np.median(times))
"""


def main(arguments: list[str]) -> int:
    files = [path for path in FILES if path.is_file()]
    model = Path(arguments[0]).absolute() if arguments else MODEL
    own, peer, bare_wake = _costs(files)
    print(f"{len(files)} files at {HZ:g} Hz")
    print(f"sampler  {own:7.3%} of a core (limit {LIMIT:.1%})")
    print(f"psutil   {peer:7.3%} of a core; the sampler costs {own / peer:.2f} of that")
    print(f"no files {bare_wake:7.3%} of a core: a loop that only wakes up")
    ways = {"none": _without, "again": _without, "thread": _in_thread, "process": _in_process}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            found[name].append(ways[name](files, model))
    bare = found["none"]
    print(f"p50 without a sampler {statistics.median(bare) / 1e3:.2f} us, {ROUNDS} rounds")
    worst = 0.0
    for name, said in (("again", "noise"), ("thread", "thread"), ("process", "process")):
        ratio, low, high = _ratio(found[name], bare)
        print(f"{said:8} {ratio:.4f} of it (95 %: {low:.4f} to {high:.4f})")
        worst = max(worst, low if name == "thread" else 0.0)
    # Its interval lies above 1 only if the sampler is felt.
    return int(own > LIMIT or worst > 1.0)


def _costs(files: list[Path]) -> tuple[float, float, float]:
    """CPU time by wall time: the sampler's, psutil's, and that of waking up."""
    ways = (lambda: _sampler_share(files), lambda: _loop_share(files), lambda: _loop_share([]))
    shares: list[list[float]] = [[] for _ in ways]
    for number in range(COST_ROUNDS):
        order = range(len(ways)) if number % 2 else reversed(range(len(ways)))
        for way in order:
            shares[way].append(ways[way]())
    own, peer, wake = map(statistics.median, shares)
    return own, peer, wake


def _sampler_share(files: list[Path]) -> float:
    sampler, start_s = _started(files), time.monotonic()
    time.sleep(COST_S)
    sampler.stop()
    return sampler.cpu_s / (time.monotonic() - start_s)


def _loop_share(files: list[Path]) -> float:
    """A plain loop that reads with psutil."""
    names = [str(path) for path in files]
    start_s, busy_s = time.monotonic(), time.thread_time()
    due_s, rows = start_s, []
    while (now_s := time.monotonic()) < start_s + COST_S:
        rows.append([psutil._common.bcat(name) for name in names])  # noqa: SLF001 - its own reader
        due_s = max(due_s + 1 / HZ, now_s)
        time.sleep(max(0.0, due_s - time.monotonic()))
    return (time.thread_time() - busy_s) / (time.monotonic() - start_s)


def _started(files: list[Path]) -> Sampler:
    sensors = [Sensor(wire.Channel("power_w", str(path)), (path,), _nothing) for path in files]
    sampler = Sampler(sensors, HZ)
    if sampler.lost:
        raise SystemExit(f"{[str(s.files[0]) for s in sampler.lost]} do not open")
    sampler.start()
    return sampler


def _nothing(rows: "list[Raw] | tuple[Raw, ...] | object") -> list[float | None]:
    return [None] * len(rows) if isinstance(rows, list | tuple) else []


def _without(_files: list[Path], model: Path) -> float:
    child = _child(model)
    return _result(child)


def _in_thread(files: list[Path], model: Path) -> float:
    child = _child(model)
    sampler = _started(files)
    try:
        return _result(child)
    finally:
        sampler.stop()


def _in_process(files: list[Path], model: Path) -> float:
    """The sampler in a fork of this process."""
    child = _child(model)
    reader, writer = os.pipe()
    beside = os.fork()
    if not beside:
        os.close(writer)
        sampler = _started(files)
        os.read(reader, 1)
        sampler.stop()
        os._exit(0)
    os.close(reader)
    try:
        return _result(child)
    finally:
        os.close(writer)
        os.waitpid(beside, 0)


def _child(model: Path) -> "subprocess.Popen[str]":
    """A process that is warm and waits for its start."""
    command = [sys.executable, "-c", LOOP, str(model), str(RUN_S)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None  # noqa: S101 - as asked for
    child.stdout.readline()
    return child


def _result(child: "subprocess.Popen[str]") -> float:
    output, _ = child.communicate("\n")
    return float(output)


def _ratio(measured: list[float], bare: list[float]) -> tuple[float, float, float]:
    """Of the medians of all rounds, with an interval over the rounds (bootstrap)."""
    generator = np.random.default_rng(1)
    draws = generator.integers(0, len(bare), (2000, len(bare)))
    ratios = np.median(np.array(measured)[draws], axis=1) / np.median(np.array(bare)[draws], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return statistics.median(measured) / statistics.median(bare), float(low), float(high)


if __name__ == "__main__":
    started = time.monotonic()
    status = main(list(itertools.islice(sys.argv, 1, None)))
    print(f"took {time.monotonic() - started:.0f} s")
    sys.exit(status)
