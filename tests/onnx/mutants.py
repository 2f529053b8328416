"""Damaged .onnx files, the same each time, and what edgeq makes of them.

``python -m tests.onnx.mutants FOLDER FIRST LAST`` loads and quantizes mutants and writes a line of
JSON for each; a mutant that crashes it is the one after the last line.
"""

import contextlib
import json
import random
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgeq import sources, steps
from edgeq.core import noise
from edgeq.core.project import Input
from edgeq.errors import EdgeqError
from edgeq.ports import LoadOptions, Recipe
from edgeq.quantizers import onnx as quantizer
from tests.fakes import tiny_onnx

MEMORY_BYTES = 8 << 30
SECONDS = 60
_WORDS = (b"\xff" * 8, b"\x00" * 8, b"\xff" * 9 + b"\x01", b"\x80" * 4, b"..", b"/etc/passwd")


def seeds() -> list[bytes]:
    return [
        tiny_onnx.conv_net(13, 7),
        tiny_onnx.conv_net(21, 10),
        tiny_onnx.float_model(),
        tiny_onnx.dynamic_batch_model(),
        tiny_onnx.two_in_two_out_model(),
        branching_model(),
        recurrent_model(),
    ]


def mutant(number: int) -> bytes:
    """Odd ones are damaged byte by byte; even ones stay protobufs, and what they say is wrong."""
    generator = random.Random(number)
    models = seeds()
    data = models[number // 2 % len(models)]
    times = generator.choice((1, 1, 1, 2, 4, 16))
    if number % 2:
        damaged = bytearray(data)
        for _ in range(times):
            _damage(damaged, generator)
        return bytes(damaged)
    model = onnx.ModelProto.FromString(data)
    for _ in range(times):
        _distort(model, generator)
    return model.SerializeToString()


def branching_model() -> bytes:
    """``x`` doubled where its sum is positive, else as it is; x float32 (1, 4)."""
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["doubled"])],
        "then",
        [],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, (1, 4))],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, (1, 4))],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"], name="greater"),
        helper.make_node("If", ["positive"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    zero = {"zero": np.float32(0)}
    return tiny_onnx.model(nodes, inputs={"x": (1, 4)}, outputs={"y": (1, 4)}, constants=zero)


def recurrent_model() -> bytes:
    """An LSTM of 4 units over 5 steps of 3 numbers; ``x`` float32 (1, 5, 3), ``y`` (1, 4)."""
    generator = np.random.default_rng(5)

    def weights(*shape):
        return generator.normal(0, 0.5, shape).astype(np.float32)

    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], "transpose", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r", "b"], ["", "last"], "lstm", hidden_size=4),
        helper.make_node("Squeeze", ["last", "axis"], ["y"], "squeeze"),
    ]
    constants = {
        "w": weights(1, 16, 3), "r": weights(1, 16, 4), "b": weights(1, 32),
        "axis": np.array([0], np.int64),
    }  # fmt: skip
    return tiny_onnx.model(
        nodes, inputs={"x": (1, 5, 3)}, outputs={"y": (1, 4)}, constants=constants
    )


def try_one(path: Path, folder: Path) -> dict[str, str]:
    """How it went: ``{"error": "", …}`` where it was loaded and quantized."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
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
        pivot = steps.load(request, lambda *_: None)
        samples = noise.random_samples(pivot.inputs, 3)
        quantizer.make().quantize(pivot, Recipe(precision="int8"), samples, folder)
    except EdgeqError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return {"error": "", "message": "", "hint": ""}


def main(folder: Path, first: int, last: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for number in range(first, last):
        signal.alarm(SECONDS)  # ends the process: a hang counts as a crash
        path = folder / f"{number}.onnx"
        path.write_bytes(mutant(number))
        outcome = try_one(path, folder / "out")
        sys.stdout.write(json.dumps({"number": number, **outcome}) + "\n")
        sys.stdout.flush()
        path.unlink()


def _damage(data: bytearray, generator: random.Random) -> None:
    place = generator.randrange(len(data))
    length = generator.choice((1, 2, 4, 16, 64))
    match generator.randrange(7):
        case 0:
            data[place] ^= 1 << generator.randrange(8)
        case 1:
            data[place] = generator.randrange(256)
        case 2:
            del data[max(place, 8) :]
        case 3:
            del data[place : place + length]
        case 4:
            data[place:place] = data[place : place + length]
        case 5:
            other = generator.randrange(len(data))
            data[place : place + length] = data[other : other + length]
        case _:
            word = generator.choice(_WORDS)
            data[place : place + len(word)] = word


def _distort(model: onnx.ModelProto, generator: random.Random) -> None:
    """Change one field of one message, anywhere in the model."""
    messages = list(_messages(model))
    message = generator.choice(messages)
    fields = message.ListFields()
    if not fields:
        return
    field, value = generator.choice(fields)
    if field.is_repeated:
        place = generator.randrange(len(value))
        match generator.randrange(3):
            case 0:
                del value[place]
            case 1:
                value.extend([value[place]])
            case _ if field.message_type is None:
                value[place] = _odd(field, value[place], generator)
    elif field.message_type is not None or generator.randrange(4) == 0:
        message.ClearField(field.name)
    else:
        with contextlib.suppress(ValueError):  # an enum has no such number
            setattr(message, field.name, _odd(field, value, generator))


def _messages(message):
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _messages(inner)


def _odd(field, value, generator: random.Random):
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_ENUM):
        wide = field.cpp_type == field.CPPTYPE_INT64
        extremes = (2**63 - 1, -(2**63), 1 << 40) if wide else (2**31 - 1, -(2**31))
        return generator.choice((0, 1, -1, 2, 3, 7, 16, 1000, 1 << 20, *extremes))
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return generator.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    if isinstance(value, bytes):
        return generator.choice(
            (b"", value[:-1], value * 2, bytes(len(value)), b"\xff" * len(value))
        )
    return generator.choice(
        ("", "x", "y", "Relu", "Gather", "Loop", value + "_", "Cast", "\n", "../x")
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
