"""The search on a net that plain int8 breaks: does it find an int8 model, how fast, does it hold?

python scripts/bench/search.py [FOLDER]

FOLDER: what badly_scaled.py wrote before; without it, it is written now. The peer in the same run
is plain int8 of the same file. The chosen model is judged by LiteRT itself on digits that the
search has not seen. Needs scikit-learn and keras unless FOLDER is given.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MAX_DROP = 0.01
LIMIT_S = 60.0
LEAST_FLOAT, MOST_BROKEN = 0.98, 0.5


def main(folder: Path | None) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        if folder is None:
            folder = home / "model"
            script = Path(__file__).with_name("badly_scaled.py")
            subprocess.run([sys.executable, str(script), str(folder)], check=True)
        model = folder / "badly_scaled.tflite"
        plain = _convert(model, folder, home, "int8", home / "plain.tflite")
        started_s = time.perf_counter()
        found = _convert(model, folder, home / "fresh", "auto", home / "auto.tflite")
        seconds = time.perf_counter() - started_s
        search = found["search"]
        chosen = next(one for one in search["candidates"] if one["name"] == search["chosen"])
        held_back = folder / "heldback.npz"
        before, after = (_accuracy(path, held_back) for path in (model, home / "auto.tflite"))
    broken = plain["quality"]["artifact_accuracy"]
    print(f"float {search['float_accuracy']:.4f}, plain int8 {broken:.4f}")
    print(f"chosen: {chosen['name']}, {chosen['artifact_accuracy']:.4f}, {seconds:.1f} s")
    print(f"held back: float {before:.4f}, chosen {after:.4f}, drop {before - after:.4f}")
    passed = (
        search["float_accuracy"] >= LEAST_FLOAT
        and broken < MOST_BROKEN
        and chosen["recipe"]["precision"] == "int8"
        and seconds < LIMIT_S
        and before - after <= MAX_DROP
    )
    print(f"limit {LIMIT_S:g} s, an int8 model, drop {MAX_DROP}: {'held' if passed else 'MISSED'}")
    return int(not passed)


def _convert(model: Path, folder: Path, home: Path, precision: str, out: Path) -> dict:  # type: ignore[type-arg]  # JSON
    """The manifest; plain int8 fails its gate, which is what the peer is for."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "EDGEQ_HOME": f"{home}/edgeq", "HOME": str(home)}
    command = [
        sys.executable, "-m", "edgeq", "convert", str(model), "--device", "host",
        "--precision", precision, "--max-drop", str(MAX_DROP), "--json", "-", "-o", str(out),
        "--calibration", str(folder / "calibration.npz"),
        "--evaluate", str(folder / "eval.npz"),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    manifest: dict = json.loads(done.stdout)  # type: ignore[type-arg]  # JSON
    return manifest


def _accuracy(model: Path, data: Path) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    right = []
    with np.load(data) as arrays:
        for sample, label in zip(arrays["features"], arrays["labels"], strict=True):
            interpreter.set_tensor(source["index"], sample[None].astype(np.float32))
            interpreter.invoke()
            right.append(int(np.argmax(interpreter.get_tensor(target["index"]))) == label)
    return float(np.mean(right))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
