"""What the host needs from the world, as Protocols. Adapters do not inherit from them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.core.inventory import Device
from edgeq.core.model import Artifact, FloatModel, Source, TensorSpec
from edgeq.core.profile import Format, Precision, TensorType
from edgeq.core.project import Input
from edgeq.core.samples import Samples

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
TensorSpecs = tuple[TensorSpec, ...]
Batch = tuple[Array, ...]
Predict = Callable[[Path, Sequence[Array]], list[Floats]]
"""Model file and inputs (one array of shape (samples, …) per input) to float32 outputs of the same
form."""

OnProgress = Callable[[str, int, int], None]
"""Progress: phase, done, total (0 when unknown)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended; ``status`` is -signal when a signal ended it, -1 when unknown."""

    status: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A running command on the device: bytes to its input, bytes from its output."""

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it.

        Raises:
            BrokenPipeError: the command ended or closed its input.
            LinkLostError: the connection broke, or nothing was taken for long.
        """

    def receive(self, timeout_s: float) -> bytes:
        """The next bytes; empty at the end of the output.

        Raises:
            TimeoutError: nothing came in time.
            LinkLostError: the connection broke.
        """

    def close(self) -> Completed:
        """End the command's input, wait a little for its end, else kill it; no ``stdout``.

        A second time gives the same.
        """


class Link(Protocol):
    """One open connection to a device."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """Run a command to its end.

        Raises:
            LinkLostError: the connection broke.
            DeviceError: it did not end in time.
        """

    def open(self, argv: Sequence[str]) -> Channel:
        """Start a command and talk with it."""

    def close(self) -> None: ...


class Transport(Protocol):
    """A way to reach devices."""

    def connect(self, device: Device) -> Link:
        """Open a connection; the host key is checked before any log-in.

        Raises:
            ConnectError: see its subclasses.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load.

    Attributes:
        trust: Code that the model carries may run (in the worker, nowhere else).
        image_size: Height and width for an input that leaves them open.
        shapes: Of the inputs in order, with the batch; empty: what the model says.
        data_shapes: Of one sample of the data by array name, which is empty where there is one
            array without a name; for a model that says no shapes.
        target: Format of the pivot.
        pythons: Of the environments that ``Loader.environments`` named.
        log: Where child processes of the loader write; None: it starts none.
    """

    target: Format
    trust: bool = False
    image_size: tuple[int, int] | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    data_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    pythons: Mapping[str, Path] = field(default_factory=dict)
    log: Path | None = None


class Loader(Protocol):
    """A source format."""

    def recognise(self, path: Path) -> str | None:
        """The kind of source, such as ``keras-h5``, by name and first bytes; None: not mine.

        Raises:
            ModelError: it is this loader's by name, but not by its contents.
        """

    def environments(self, kind: str, target: Format) -> tuple[str, ...]:
        """Names of the environments (``edgeq.environments``) that ``load`` needs beside its own."""

    def load(
        self,
        source: Source,
        folder: Path,
        options: LoadOptions,
        probe: Callable[[TensorSpecs], Sequence[Batch]],
    ) -> FloatModel:
        """Write ``folder/pivot.<format>`` and compare it with the source on real inputs.

        Runs in a worker process: heavy imports, noise and crashes stay there.

        Args:
            source: The user's model.
            folder: An empty folder of the caller's.
            options: See there.
            probe: Gives inputs for the comparison once the input tensors are known; each batch
                holds one array per input, of shape ``(1, …)`` and the input's type.

        Raises:
            ModelError: the model cannot be loaded, or its pivot gives other answers.
        """


Alter = Callable[[Floats, int, int], Floats]
"""Changes raw samples of one input, before preprocessing: the array, the number of its first
sample, the input's place. Pictures come as (count, height, width, channels), gray or red, green,
blue, 0 to 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What data says of itself before it is read as a whole.

    Attributes:
        label_names: Class names by number; empty when labels are bare numbers.
        picture: Height and width when samples are pictures; None when they are other numbers.
        warnings: What is odd about it.
    """

    samples: int
    labelled: bool
    label_names: tuple[str, ...] = ()
    picture: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()


class Chunk(Protocol):
    """Some samples in a row, as they stand on the disk."""

    def samples(self, alter: Alter | None = None) -> Samples:
        """Preprocess them, changed by ``alter`` before; may be asked several times.

        Raises:
            DataError: they do not fit the inputs.
        """


class Dataset(Protocol):
    """A kind of data on the disk."""

    def recognises(self, path: Path) -> bool: ...

    def read(
        self, path: Path, inputs: TensorSpecs, settings: Input, limit: int | None = None
    ) -> Samples:
        """Read and preprocess samples for the model's inputs.

        Args:
            path: What the user named.
            inputs: The model's.
            settings: ``[input]`` of edgeq.toml.
            limit: At most so many, spread evenly; None: all.

        Raises:
            DataError: it cannot be read, or does not fit the inputs.
        """

    def describe(self, path: Path, inputs: TensorSpecs, settings: Input) -> DataFacts:
        """Count the samples without reading them; raises as ``read`` does."""

    def chunks(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Chunk]:
        """All samples in order, at most ``batch`` at a time, however large the whole is.

        Close the iterator, or read it to its end; raises as ``read`` does.
        """

    def stream(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Samples]:
        """What ``read`` gives, in chunks, with the same values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to quantize.

    Attributes:
        input_dtype: Of an int8 artifact's own tensors, like ``output_dtype``.
        keep_float: Names of tensors whose ops stay in float32 (``mixed``).
        weights: How the ranges of weights are found: ``minmax``, or ``octav``, which clips them
            (Sakr et al. 2022, "Optimal Clipping and Magnitude-aware Differentiation").
        equalize: Cross-layer equalization of the pivot first (Nagel et al. 2019).
        correct_bias: Bias correction afterwards (the same paper).
        activations: Type of an int8 .onnx's activations.
        symmetric: Their zero point is 0, as TensorRT needs it.
        reduce_range: Weights of an int8 .onnx in 7 bits: x86 processors without VNNI add two
            products of 8 bits in 16, which overflow.
        opset_max: The newest ONNX opset; None: any. ``ir_max`` likewise.
    """

    precision: Precision
    input_dtype: TensorType = "float32"
    output_dtype: TensorType = "float32"
    keep_float: tuple[str, ...] = ()
    weights: Literal["minmax", "octav"] = "minmax"
    equalize: bool = False
    correct_bias: bool = False
    activations: Literal["int8", "uint8"] = "uint8"
    symmetric: bool = False
    reduce_range: bool = False
    opset_max: int | None = None
    ir_max: int | None = None


class Quantizer(Protocol):
    """A target format. Runs in a worker process."""

    def quantize(
        self, pivot: FloatModel, recipe: Recipe, calibration: Samples | None, folder: Path
    ) -> Artifact:
        """Write the artifact into ``folder``; the same input gives the same bytes.

        Raises:
            ModelError: it cannot be quantized so.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readings:
    """Power over time, as a meter at this machine read it.

    Attributes:
        source: The meter, for people.
        times_s: Since 1970, rising.
        watts: At those times.
    """

    source: str
    times_s: npt.NDArray[np.float64]
    watts: npt.NDArray[np.float64]


class PowerMeter(Protocol):
    """A power meter at this machine, in the device's supply."""

    @property
    def source(self) -> str: ...

    def start(self) -> None:
        """Begin to read, before the run.

        Raises:
            MeterError: it cannot be read.
        """

    def stop(self, start_s: float, end_s: float, on_progress: OnProgress) -> Readings:
        """What it read, from ``start_s`` to ``end_s`` at least, if it can be had.

        Raises:
            MeterError: it says nothing of that time.
        """

    def close(self) -> None:
        """Let go of it, however far it came."""


class Store(Protocol):
    """Where runs are kept."""

    def save(self, run_id: str, report_json: str, raw: bytes) -> None: ...

    def load(self, run_id: str) -> tuple[str, bytes]:
        """Report as JSON, and the raw samples. ``run_id`` may be shortened if it stays unique."""

    def list(self, limit: int) -> list[str]:
        """Reports as JSON, newest first."""


__all__ = [
    "Alter", "Array", "Batch", "Channel", "Chunk", "Completed", "DataFacts", "Dataset", "Floats",
    "Link", "LoadOptions", "Loader", "OnProgress", "PowerMeter", "Predict", "Quantizer",
    "Readings", "Recipe", "Samples",
    "Store", "TensorSpecs", "Transport",
]  # fmt: skip
