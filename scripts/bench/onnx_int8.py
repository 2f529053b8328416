"""int8 .onnx of edgeq against onnxruntime's quantize_static, in one run.

usage: onnx_int8.py [--rounds N] [NAME …]

The models are made here, of seeded random weights; with EDGEQ_SHARED_DATA the ResNet-8 and the
keyword net in its models/ too, by tf2onnx. quantize_static gets quant_pre_process, QDQ, a scale
per channel, and every combination of activation type, 7- or 8-bit weights, MinMax or Percentile.
Its best setting is the one of the highest SQNR, those more than 10 % slower than edgeq's left out:
on x86 without VNNI some settings buy SQNR with kernels that are slower than float32. The last line
of a model is a duel with that one alone.

SQNR is over samples that did not calibrate; latency is the median on one thread, sessions in turns.
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeq import processor, sources, steps
from edgeq.core.model import FloatModel
from edgeq.core.project import Input
from edgeq.core.samples import Samples
from edgeq.ports import Array, LoadOptions, Recipe
from edgeq.quantizers import onnx as quantizer
from tests.onnx import nets, peer

CALIBRATION, EVALUATION = 64, 200
SLOWER = 1.1
Feeds = list[dict[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A float model and inputs for it."""

    path: Path
    calibration: Feeds
    evaluation: Feeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    sqnr_db: float
    p50_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = all_cases(Path(folder))
        for name in arguments.names or cases:
            report(name, cases[name](), Path(folder) / name, arguments.rounds)


def all_cases(folder: Path) -> Mapping[str, Callable[[], Case]]:
    """By name; each is made when it is called."""
    cases: dict[str, Callable[[], Case]] = {
        name: functools.partial(own_case, name, folder) for name in nets.ALL
    }
    if shared := os.environ.get("EDGEQ_SHARED_DATA"):
        cases["resnet8"] = functools.partial(resnet8, Path(shared), folder)
        cases["keywords"] = functools.partial(keywords, Path(shared), folder)
    return cases


def report(name: str, case: Case, folder: Path, rounds: int) -> None:
    """Print a table: a line for edgeq, one for each setting, and the comparison with the best."""
    reference = peer.session(case.path.read_bytes())
    pivot = load(case.path, folder)
    started = time.monotonic()
    ours = quantize(pivot, case, folder)
    seconds = time.monotonic() - started
    settings = [
        peer.Settings(activations=activations, reduce_range=narrow, calibration=calibration)
        for activations in ("uint8", "int8")
        for narrow in (False, True)
        for calibration in ("MinMax", "Percentile")
    ]
    theirs = [peer.quantize_static(case.path, case.calibration, one) for one in settings]
    sessions = [peer.session(model) for model in (ours, *theirs)]
    latencies = p50_ms([reference, *sessions], case.evaluation, rounds)
    figures = [
        Figures(sqnr_db=peer.sqnr_db(session, reference, case.evaluation), p50_ms=latency)
        for session, latency in zip(sessions, latencies[1:], strict=True)
    ]
    print(f"{name}: float32 {latencies[0]:.4f} ms")
    print(f"  {figures[0].sqnr_db:6.2f} dB {figures[0].p50_ms:8.4f} ms  edgeq ({seconds:.1f} s)")
    for setting, one in zip(settings, figures[1:], strict=True):
        print(f"  {one.sqnr_db:6.2f} dB {one.p50_ms:8.4f} ms  quantize_static: {setting}")
    best = best_of(figures[1:], figures[0].p50_ms * SLOWER)
    duel = p50_ms([sessions[0], sessions[1 + figures[1:].index(best)]], case.evaluation, 4 * rounds)
    print(
        f"  against its best, {settings[figures[1:].index(best)]}:"
        f" {figures[0].sqnr_db - best.sqnr_db:+.2f} dB,"
        f" latency {duel[0]:.4f} to {duel[1]:.4f} ms, ratio {duel[0] / duel[1]:.3f}",
        flush=True,
    )


def best_of(theirs: list[Figures], limit_ms: float) -> Figures:
    """The highest SQNR among those within the limit; the fastest where none is."""
    within = [one for one in theirs if one.p50_ms <= limit_ms]
    if within:
        return max(within, key=lambda one: one.sqnr_db)
    return min(theirs, key=lambda one: one.p50_ms)


def quantize(pivot: FloatModel, case: Case, folder: Path) -> bytes:
    """As ``edgeq convert`` for this machine does."""
    names = [spec.name for spec in pivot.inputs]
    samples = Samples(
        inputs=tuple(np.concatenate([feed[name] for feed in case.calibration]) for name in names),
        origin="",
        sha256="",
    )
    recipe = Recipe(precision="int8", reduce_range=processor.overflows())
    return quantizer.make().quantize(pivot, recipe, samples, folder).path.read_bytes()


def load(path: Path, folder: Path) -> FloatModel:
    folder.mkdir()
    model = sources.identify_model(path)
    request = steps.LoadRequest(
        source=model.source,
        loader=model.loader,
        folder=folder,
        options=LoadOptions(target="onnx"),
        settings=Input(),
        data=None,
        reader=None,
    )
    return steps.load(request, lambda *_: None)


def p50_ms(sessions: list[Any], feeds: Feeds, rounds: int) -> list[float]:
    """Of each session, all in turns, each round in another order."""
    taken: list[list[float]] = [[] for _ in sessions]
    generator = np.random.default_rng(1)
    for number in range(rounds):
        feed = feeds[number % len(feeds)]
        for place in generator.permutation(len(sessions)):
            started = time.perf_counter()
            sessions[place].run(None, feed)
            taken[place].append(time.perf_counter() - started)
    return [statistics.median(times[rounds // 10 :]) * 1e3 for times in taken]


def own_case(name: str, folder: Path) -> Case:
    import onnx

    path = folder / f"{name}.onnx"
    path.write_bytes(nets.ALL[name]())
    shapes = {
        item.name: tuple(side.dim_value for side in item.type.tensor_type.shape.dim)
        for item in onnx.load(path).graph.input
    }
    generator = np.random.default_rng(9)
    feeds: Feeds = [
        {key: generator.standard_normal(shape, np.float32) for key, shape in shapes.items()}
        for _ in range(CALIBRATION + EVALUATION)
    ]
    return Case(path=path, calibration=feeds[:CALIBRATION], evaluation=feeds[CALIBRATION:])


def resnet8(shared: Path, folder: Path) -> Case:
    import keras
    import tensorflow as tf
    import tf2onnx

    model = keras.models.load_model(shared / "models/resnet8_cifar10.h5", compile=False)
    spec = tf.TensorSpec((1, 32, 32, 3), tf.float32, name="image")
    function = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    path = folder / "resnet8.onnx"
    tf2onnx.convert.from_function(function, input_signature=[spec], opset=17, output_path=str(path))
    return Case(
        path=path,
        calibration=list(images(shared / "data/cifar10/calibration", "image", 100)),
        evaluation=list(images(shared / "data/cifar10/eval", "image", EVALUATION)),
    )


def keywords(shared: Path, folder: Path) -> Case:
    import tensorflow as tf
    import tf2onnx

    path = folder / "keywords.onnx"
    loader = tf.compat.v1.saved_model
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = loader.load(session, ["serve"], str(shared / "models/kws_saved_model"))
        signature = meta.signature_def["serving_default"]
        (given,), (made,) = signature.inputs.values(), signature.outputs.values()
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, session.graph_def, [made.name.split(":")[0]]
        )
    tf2onnx.convert.from_graph_def(
        frozen,
        input_names=[given.name],
        output_names=[made.name],
        shape_override={given.name: [1, 49, 10, 1]},
        opset=17,
        output_path=str(path),
    )
    data = shared / "data/kws01"
    return Case(
        path=path,
        calibration=list(arrays(data / "calibration.npz", given.name, 100)),
        evaluation=list(arrays(data / "eval.npz", given.name, EVALUATION)),
    )


def images(folder: Path, name: str, count: int) -> Iterator[dict[str, Array]]:
    from PIL import Image

    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for place in (np.arange(min(count, len(paths))) * len(paths)) // min(count, len(paths)):
        with Image.open(paths[place]) as image:
            yield {name: np.asarray(image.convert("RGB"), np.float32)[None]}


def arrays(path: Path, name: str, count: int) -> Iterator[dict[str, Array]]:
    features = np.load(path)["features"]
    for place in (np.arange(min(count, len(features))) * len(features)) // min(
        count, len(features)
    ):
        yield {name: features[place : place + 1]}


if __name__ == "__main__":
    main()
