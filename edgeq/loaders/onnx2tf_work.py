"""What runs in the environment with onnx2tf: a pinned .onnx to a float .tflite."""

from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ModelError
from edgeq.ports import OnProgress

_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``folder``: empty, and gets what onnx2tf writes. ``name``: of the user's file."""

    onnx: Path
    folder: Path
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """``path``: of the .tflite in float32."""

    path: Path


def convert(request: Request, on_progress: OnProgress) -> Reply:
    """Convert; inputs keep their shapes, and all ends their names.

    Raises:
        ModelError: onnx2tf cannot.
    """
    import onnx
    import onnx2tf

    on_progress("convert", 0, 0)
    model = onnx.load(str(request.onnx), load_external_data=False)
    try:
        onnx2tf.convert(
            input_onnx_file_path=str(request.onnx),
            output_folder_path=str(request.folder),
            # -kat: else an input (1, 3, 32, 32) becomes (1, 32, 32, 3), which no data fits
            keep_shape_absolutely_input_names=[item.name for item in model.graph.input],
            copy_onnx_input_output_names_to_tflite=True,
            non_verbose=True,
        )
    except SystemExit as error:  # onnx2tf ends the process where it has no answer
        raise _cannot(request, "see its log") from error
    except _ERRORS as error:
        raise _cannot(request, _reason(error)) from error
    found = sorted(request.folder.glob("*_float32.tflite"))
    if len(found) != 1:
        raise _cannot(request, "it wrote no float32 file")
    return Reply(path=found[0])


# What onnx2tf raises for a graph that it has no answer to.
_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError,
    NotImplementedError, OSError, ImportError, ZeroDivisionError,
)  # fmt: skip


def _cannot(request: Request, why: str) -> ModelError:
    return ModelError(
        f"onnx2tf cannot convert {request.name} to .tflite: {why}", hint="--format onnx"
    )


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:_REASON_CHARACTERS]
