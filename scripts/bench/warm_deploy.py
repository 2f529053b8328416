"""What a warm `edgeq deploy` to this machine costs beside the measuring itself.

python scripts/bench/warm_deploy.py [ROUNDS]

Everything is cached and provisioned by a first deploy into a fresh EDGEQ_HOME; then each round
deploys the example model with 200 runs, and what the report gives as time on the device is taken
off the command's own time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = Path(__file__).parents[2] / "examples" / "digits" / "digits_cnn.h5"
LIMIT_S = 3.0


def main(rounds: int) -> int:
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "EDGEQ_HOME": f"{home}/edgeq", "HOME": home}
        report = Path(home) / "report.json"
        own, whole = [], []
        for number in range(rounds + 1):
            seconds = _deploy(environment, report)
            measuring = json.loads(report.read_text())["timings_s"]["run"]
            kind = "warm" if number else "cold"
            print(f"{kind}: {seconds:.2f} s, {measuring:.2f} s of it measuring")
            if number:
                whole.append(seconds)
                own.append(seconds - measuring)
    median = statistics.median(own)
    print(f"own time of a warm deploy {median:.2f} s of {statistics.median(whole):.2f} s")
    print(f"limit {LIMIT_S} s")
    return int(median > LIMIT_S)


def _deploy(environment: dict[str, str], report: Path) -> float:
    edgeq = str(Path(sys.executable).parent / "edgeq")
    command = [edgeq, "deploy", "--device", "host", "--runs", "200", "--duration", "0"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "--json", str(report), str(MODEL)],
        check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
