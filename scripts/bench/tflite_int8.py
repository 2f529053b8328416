"""int8 .tflite: edgeq's quantizer against TensorFlow's TFLiteConverter, on the same samples.

    python scripts/bench/tflite_int8.py [ROUNDS]

Models: examples/digits, the badly scaled net of ``badly_scaled.py`` (needs scikit-learn), and with
EDGEQ_SHARED_DATA the ResNet-8 and the keyword net in its models/. Each conversion runs in a fresh
process, whose seconds and peak memory count from the interpreter's start, imports included:

* edgeq: from the float pivot to an int8 file that ran once in LiteRT;
* TFLiteConverter: from the Keras model or SavedModel, as it takes no .tflite, to the int8 file.

"converting" is the part of it without imports, and for TFLiteConverter without loading the model.
SQNR is over the evaluation samples, against the float pivot. Exit code 1 when a limit is missed.
"""

import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # runs in a checkout that is not installed too
SQNR_LOSS_DB = 0.2
TIMES_FASTER = 5.0
SHARE_OF_MEMORY = 0.25
KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model with its data."""

    name: str
    model: Path
    calibration: Path
    evaluation: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one child process."""

    seconds: float
    converting_s: float
    peak_mib: float


def main(rounds: int) -> int:
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in _cases(folder):
            missed += _measure(case, folder / case.name, rounds)
    for line in missed:
        print(f"missed: {line}")
    return int(bool(missed))


def _cases(folder: Path) -> Iterator[Case]:
    digits = ROOT / "examples" / "digits"
    yield Case(
        name="digits",
        model=digits / "digits_cnn.h5",
        calibration=digits / "calibration.npz",
        evaluation=digits / "evaluation.npz",
    )
    made = folder / "made"
    script = Path(__file__).with_name("badly_scaled.py")
    subprocess.run([sys.executable, str(script), str(made)], check=True, stderr=subprocess.DEVNULL)
    yield Case(
        name="badly_scaled",
        model=made / "badly_scaled.h5",
        calibration=made / "calibration.npz",
        evaluation=made / "eval.npz",
    )
    if shared := os.environ.get("EDGEQ_SHARED_DATA"):
        models, data = Path(shared) / "models", Path(shared) / "data"
        yield Case(
            name="resnet8",
            model=models / "resnet8_cifar10.h5",
            calibration=data / "cifar10" / "calibration",
            evaluation=data / "cifar10" / "eval",
        )
        yield Case(
            name="keywords",
            model=models / "kws_saved_model",
            calibration=data / "kws01" / "calibration.npz",
            evaluation=data / "kws01" / "eval.npz",
        )


def _measure(case: Case, folder: Path, rounds: int) -> list[str]:
    """Print a case's figures, and give the limits that it missed."""
    folder.mkdir()
    converted = _pivot(case, folder)
    job = (converted.pivot, converted.calibration, case.model)
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    ours = [_child("ours", folder) for _ in range(rounds)]
    theirs = [_child("theirs", folder) for _ in range(rounds)]
    inputs = converted.evaluation.inputs[0]
    expected = _answers(converted.pivot.path, inputs)
    sqnr = [_sqnr_db(expected, _answers(folder / f"{side}.tflite", inputs)) for side in SIDES]
    return _report(case.name, _median(ours), _median(theirs), sqnr)


def _pivot(case: Case, folder: Path) -> Any:  # noqa: ANN401  convert.Converted
    from edgeq import convert, places, registry
    from edgeq.core.project import Project

    job = convert.ConvertJob(
        model=case.model,
        profile=registry.profile("host").profile,
        project=Project(),
        calibration=case.calibration,
        evaluation=case.evaluation,
        precision="float32",
    )
    home = places.find({"EDGEQ_HOME": str(folder / "home")})
    return convert.convert(job, places=home, on_progress=lambda *_: None)


def _child(side: str, folder: Path) -> Cost:
    """One conversion in a fresh process."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, __file__, side, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    output = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{side} of {folder.name} failed with status {status}")
    converting = output.rsplit("converting_s", 1)[1]  # TensorFlow prints too
    return Cost(
        seconds=seconds, converting_s=float(converting), peak_mib=usage.ru_maxrss / KIB_PER_MIB
    )


def _ours(folder: Path) -> float:
    """Seconds of the conversion itself."""
    import ai_edge_quantizer.quantizer  # noqa: F401  counted with the imports

    from edgeq.ports import Recipe
    from edgeq.quantizers import tflite

    pivot, calibration, _ = pickle.loads((folder / "job.pickle").read_bytes())  # noqa: S301  our own
    out = folder / "out"
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    artifact = tflite.make().quantize(pivot, Recipe(precision="int8"), calibration, out)
    seconds = time.perf_counter() - start
    artifact.path.rename(folder / "ours.tflite")
    return seconds


def _theirs(folder: Path) -> float:
    """Seconds of the conversion itself."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    import tensorflow as tf

    _, calibration, model = pickle.loads((folder / "job.pickle").read_bytes())  # noqa: S301  our own
    images = calibration.inputs[0]
    if model.is_dir():
        converter = tf.compat.v1.lite.TFLiteConverter.from_saved_model(str(model))
    else:
        import keras

        net = keras.models.load_model(model, compile=False)
        one = keras.Input(batch_shape=(1, *images.shape[1:]))
        converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(one, net(one)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    start = time.perf_counter()
    content = converter.convert()
    seconds = time.perf_counter() - start
    (folder / "theirs.tflite").write_bytes(content)
    return seconds


SIDES = {"ours": _ours, "theirs": _theirs}


def _answers(path: Path, inputs: Any) -> Any:  # noqa: ANN401  arrays
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for image in inputs:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(asked["index"])[0])
    return np.array(answers, np.float64)


def _sqnr_db(expected: Any, found: Any) -> float:  # noqa: ANN401  arrays
    import numpy as np

    return float(10 * np.log10(np.sum(expected**2) / np.sum((expected - found) ** 2)))


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        seconds=statistics.median(cost.seconds for cost in costs),
        converting_s=statistics.median(cost.converting_s for cost in costs),
        peak_mib=statistics.median(cost.peak_mib for cost in costs),
    )


def _report(name: str, ours: Cost, theirs: Cost, sqnr: Sequence[float]) -> list[str]:
    """Print a case's figures, and give the limits that it missed."""
    faster = theirs.seconds / ours.seconds
    share = ours.peak_mib / theirs.peak_mib
    gain = sqnr[0] - sqnr[1]
    print(f"{name}: edgeq {sqnr[0]:.2f} dB, TFLiteConverter {sqnr[1]:.2f} dB ({gain:+.2f} dB)")
    print(
        f"  whole process {ours.seconds:.2f} s against {theirs.seconds:.2f} s: {faster:.1f} times "
        f"faster; converting {ours.converting_s:.2f} s against {theirs.converting_s:.2f} s: "
        f"{theirs.converting_s / ours.converting_s:.1f} times"
    )
    print(f"  peak memory {ours.peak_mib:.0f} MiB against {theirs.peak_mib:.0f} MiB: {share:.0%}")
    limits = (
        (gain >= -SQNR_LOSS_DB, f"SQNR {gain:+.2f} dB, limit -{SQNR_LOSS_DB} dB"),
        (faster >= TIMES_FASTER, f"{faster:.1f} times faster, limit {TIMES_FASTER}"),
        (share <= SHARE_OF_MEMORY, f"{share:.0%} of the memory, limit {SHARE_OF_MEMORY:.0%}"),
    )
    return [f"{name}: {text}" for held, text in limits if not held]


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SIDES:
        print("converting_s", SIDES[sys.argv[1]](Path(sys.argv[2])))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
