"""What a worker finds around it: environment variables and where modules come from."""

import contextlib
import os
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PARENT = "EDGEQ_WORKER_PARENT"
"""Variable with the process that started the worker."""

_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


@contextlib.contextmanager
def search_path(python: Path | None) -> Iterator[str]:
    """``PYTHONPATH`` of the child."""
    package = Path(__file__).resolve().parent
    if python is None:
        paths = os.environ.get("PYTHONPATH", "")
        if str(package.parent) != sysconfig.get_path("purelib"):
            paths = os.pathsep.join(part for part in (paths, str(package.parent)) if part)
        yield paths
        return
    # beside an installed edgeq lie all the packages that another environment must not see
    with tempfile.TemporaryDirectory(prefix="edgeq-path-") as folder:
        Path(folder, package.name).symlink_to(package)
        yield folder


def environment(environ: Mapping[str, str], paths: str, *, elsewhere: bool) -> dict[str, str]:
    """The user's, with what makes TensorFlow quiet, repeatable and the only Keras backend."""
    # edgeq's own environments keep compiled modules: without, PyTorch takes half a minute to start
    drop = {_NO_BYTECODE} if elsewhere else set()
    return {
        **{key: value for key, value in environ.items() if key not in drop},
        "PYTHONPATH": paths,
        "PYTHONHASHSEED": "0",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        # From 1.29 on ONNX Runtime tells its maker about models: microsoft/onnxruntime/pull/27379
        "ORT_DISABLE_TELEMETRY": "1",
        PARENT: str(os.getpid()),
    }
