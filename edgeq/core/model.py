"""What a model is to the rest of edgeq: files with hashes and tensors with names."""

from dataclasses import dataclass, field
from pathlib import Path

from edgeq.core.profile import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: The signature's name where the model has one, else the tensor's.
        shape: With the batch axis, which is 1.
        dtype: NumPy's name, such as ``float32`` or ``int8``.
        scale: Real value of one step; None when not quantized.
        zero_point: Quantized value of real 0; None when not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The user's model.

    Attributes:
        kind: keras-h5, keras, saved-model, tflite, onnx, torch-export or torchscript.
        sha256: Of a folder it covers names and contents.
    """

    path: Path
    name: str
    kind: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatModel:
    """The pivot: a float32 .tflite or .onnx with batch 1, compared with its source.

    Attributes:
        check_samples: Inputs that the comparison took; 0 when source and pivot are one file.
        check_max_abs_diff: Largest absolute difference of any output; 0.0 when they are one file.
    """

    path: Path
    format: Format
    sha256: str
    source: Source
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    check_samples: int
    check_max_abs_diff: float
    tools: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The converted model.

    Attributes:
        precision: What it is, which differs from ``requested`` when int8 had no calibration data.
    """

    path: Path
    sha256: str
    size_bytes: int
    format: Format
    precision: str
    requested: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    calibration_sha256: str | None
    calibration_samples: int
    tools: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
