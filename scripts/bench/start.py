"""How long `edgeq --help` takes, against `python -c pass`; both in turn, medians, and the ratio.

python scripts/bench/start.py [ROUNDS]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

HEAVY = ("tensorflow", "keras", "paramiko", "numpy", "rich", "pydantic")
LIMIT = 12.0


def main(rounds: int) -> int:
    edgeq = [str(Path(sys.executable).parent / "edgeq"), "--help"]
    empty = [sys.executable, "-c", "pass"]
    times: dict[str, list[float]] = {"edgeq --help": [], "python -c pass": []}
    for _ in range(rounds):
        times["edgeq --help"].append(_seconds(edgeq))
        times["python -c pass"].append(_seconds(empty))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:<16} {seconds * 1e3:7.1f} ms")
    ratio = medians["edgeq --help"] / medians["python -c pass"]
    print(f"ratio {ratio:.1f} (limit {LIMIT:.0f})")
    heavy = _imported(HEAVY)
    print(f"heavy modules imported: {', '.join(heavy) or 'none'}")
    return int(ratio > LIMIT or bool(heavy))


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _imported(names: tuple[str, ...]) -> list[str]:
    code = (
        "import sys; sys.argv = ['edgeq', '--help']\n"
        "from edgeq.cli.app import main\n"
        "try: main()\n"
        f"except SystemExit: print([n for n in {names!r} if n in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [name for name in names if f"'{name}'" in done.stderr]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
