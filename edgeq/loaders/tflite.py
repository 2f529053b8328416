"""Float .tflite files: the pivot already, once its batch is pinned."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from edgeq.core.model import FloatModel, Source
from edgeq.core.profile import Format
from edgeq.errors import ModelError
from edgeq.formats import Tensors, tflite
from edgeq.loaders import pivot
from edgeq.ports import Array, Batch, LoadOptions, TensorSpecs

_MAGIC = slice(4, 8), b"TFL3"


def make() -> "TfliteLoader":
    return TfliteLoader()


class TfliteLoader:
    def recognise(self, path: Path) -> str | None:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(8)
        place, magic = _MAGIC
        if head[place] == magic:
            return "tflite"
        if path.suffix.lower() in (".tflite", ".lite"):
            raise ModelError(
                f"{path} is called {path.suffix}, but its contents are not",
                hint="was the download or the copy cut short?",
            )
        return None

    def environments(self, kind: str, target: Format) -> tuple[str, ...]:
        del kind, target
        return ()

    def load(
        self,
        source: Source,
        folder: Path,
        options: LoadOptions,
        probe: Callable[[TensorSpecs], Sequence[Batch]],
    ) -> FloatModel:
        # LiteRT's verifier comes first: the reader behind read_contents trusts every offset
        untouched = tflite.Runner(source.path)
        contents = tflite.read_contents(source.path)
        _refuse(source, contents)
        path = pivot.path_in(folder, "tflite")
        shutil.copyfile(source.path, path)
        if contents.dynamic_inputs:
            tflite.pin_batch(path)
        _refuse_batches(source, untouched.tensors)

        def answer(given: Mapping[str, Array]) -> Mapping[str, Array]:
            outputs = untouched.run(list(given.values()))
            names = (spec.name for spec in untouched.tensors.outputs)
            return dict(zip(names, outputs, strict=True))

        tools = {"ai-edge-litert": version("ai-edge-litert")}
        if options.target == "onnx":
            from edgeq.loaders import tf_to_onnx  # it needs TensorFlow, a .tflite does not

            onnx = pivot.path_in(folder, "onnx")
            tf_to_onnx.convert_tflite(source, path, options, onnx)
            path.unlink()
            path, tools = onnx, {**tools, "tf2onnx": version("tf2onnx")}
        return pivot.finish(source, path, answer, probe, tools)


def _refuse(source: Source, contents: tflite.Contents) -> None:
    name = source.path.name
    if contents.quantized:
        raise ModelError(
            f"{name} is already quantized: edgeq starts from a float model",
            hint="give the float .tflite, .h5, .keras or SavedModel that it was made from",
        )
    if len(contents.signatures) > 1:
        raise ModelError(
            f"{name} has {len(contents.signatures)} signatures: {', '.join(contents.signatures)}",
            hint="convert it again with one signature: edgeq deploys models with one",
        )
    for tensor, shape in contents.dynamic_inputs:
        if any(side < 0 for side in shape[1:]):
            shown = ", ".join("?" if side < 0 else str(side) for side in shape)
            raise ModelError(
                f"input {tensor} of {name} has the open shape ({shown})",
                hint="give the model it was made from, with [input] size in edgeq.toml",
            )


def _refuse_batches(source: Source, tensors: Tensors) -> None:
    for spec in tensors.inputs:
        if len(spec.shape) > 1 and spec.shape[0] != 1:
            raise ModelError(
                f"input {spec.name} of {source.path.name} takes a batch of {spec.shape[0]}",
                hint="convert it again with a batch of 1",
            )
