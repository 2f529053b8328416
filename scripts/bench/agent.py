"""The agent's p50 against a bare loop around LiteRT's invoke, in turn, on this machine.

python scripts/bench/agent.py [MODEL.tflite …]

Without a model: float convolution nets that take about 0.1, 0.4 and 2 ms are made. Each round runs
the agent's own measuring process and a process with nothing but the loop, in turns that alternate
(ABBA), so that a machine that becomes busy slows both. The ratio is that of the medians of all
rounds; processes differ by some percent even so, which is why there are many rounds.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeq import wire
from edgeq.archive import agent_archive, examine_script
from edgeq.core.inventory import Device
from edgeq.examination import examine
from edgeq.session import Session, open_session
from edgeq.transports import local

ROUNDS = 12
RUNS = 1000
LIMIT = 1.03
LEAST_US = 100.0
SIDES = (32, 64, 144)
BARE = """
import gc, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
end = time.monotonic() + 0.5
while time.monotonic() < end:
    interpreter.invoke()
gc.disable()
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter_ns()
    interpreter.invoke()
    times.append(time.perf_counter_ns() - start)
print(np.median(times))
"""


def main(models: list[Path]) -> int:
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder, _session(Path(folder)) as session:
        for model in models or [_net(Path(folder), side) for side in SIDES]:
            ratio, bare_us = _compare(session, model)
            counts = bare_us >= LEAST_US
            print(
                f"{model.name}: bare {bare_us:8.1f} us, agent/bare {ratio:.3f}"
                + ("" if counts else " (under 100 us, not counted)")
            )
            worst = max(worst, ratio if counts else 0.0)
    print(f"worst ratio {worst:.3f} (limit {LIMIT})")
    return int(worst > LIMIT)


def _compare(session: Session, model: Path) -> tuple[float, float]:
    """Ratio of the agent's p50 to the bare loop's, and the bare loop's in microseconds."""
    agent: list[float] = []
    bare: list[float] = []
    for number in range(ROUNDS):
        turns = [(_agent_us, agent), (_bare_us, bare)]
        for measure, results in turns if number % 2 else reversed(turns):
            results.append(measure(session, model))
    return statistics.median(agent) / statistics.median(bare), statistics.median(bare)


def _agent_us(session: Session, model: Path) -> float:
    request = wire.Measure(
        model=str(model),
        inputs="",
        runtime=wire.Runtime(kind="litert", threads=1),
        processes=1,
        runs=RUNS,
        seconds=0.0,
        idle_s=0.0,
        sample_hz=10.0,
    )
    measured = session.measure(request)
    return float(np.median(measured.raw.processes[0].measured_ns)) / 1e3


def _bare_us(_session: Session, model: Path) -> float:
    command = [sys.executable, "-c", BARE, str(model), str(RUNS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout) / 1e3


@contextlib.contextmanager
def _session(folder: Path) -> Iterator[Session]:
    device = Device(name="host", profile="host", transport="local")
    link = local.make().connect(device)
    facts = examine(link, examine_script(quick=True), sys.executable, "this machine")
    facts = facts.model_copy(update={"root": str(folder / "root"), "agents": ()})
    with open_session(
        link, facts, python=sys.executable, agent=agent_archive(), where="this machine"
    ) as session:
        yield session


def _net(folder: Path, side: int) -> Path:
    """A small convolution net on images of ``side`` x ``side``, made by Keras in a child."""
    code = (
        "import sys, keras\n"
        "from keras import layers as l\n"
        "side = int(sys.argv[1])\n"
        "x = i = keras.Input((side, side, 3), batch_size=1)\n"
        "for filters in (16, 32, 64):\n"
        "    x = l.Conv2D(filters, 3, strides=2, padding='same', activation='relu')(x)\n"
        "    x = l.Conv2D(filters, 3, padding='same', activation='relu')(x)\n"
        "x = l.Dense(10)(l.GlobalAveragePooling2D()(x))\n"
        "keras.Model(i, x).export(sys.argv[2], format='litert', verbose=False)\n"
    )
    target = folder / f"net{side}.tflite"
    command = [sys.executable, "-c", code, str(side), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


if __name__ == "__main__":
    started = time.monotonic()
    status = main([Path(name).absolute() for name in sys.argv[1:]])
    print(f"took {time.monotonic() - started:.0f} s")
    sys.exit(status)
