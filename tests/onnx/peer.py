"""onnxruntime's own static quantizer, and the figures that compare it with edgeq's."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``activations``: uint8 or int8; ``calibration``: MinMax, Entropy or Percentile."""

    activations: str
    reduce_range: bool
    calibration: str = "MinMax"

    def __str__(self) -> str:
        bits = "7-bit weights" if self.reduce_range else "8-bit weights"
        return f"{self.activations} activations, {bits}, {self.calibration}"


def quantize_static(model: Path, feeds: list[dict], settings: Settings) -> bytes:
    """What ``quantize_static`` makes after ``quant_pre_process``: QDQ, per channel."""
    from onnxruntime import quantization
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> dict | None:
            return next(self._left, None)

    logging.getLogger().setLevel(logging.ERROR)
    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "made.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=settings.reduce_range,
            activation_type=kinds[settings.activations],
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[settings.calibration],
        )
        return made.read_bytes()


def session(model: bytes, *, exact: bool = False):
    """On one thread; ``exact``: products of 8 bits do not overflow on x86 without VNNI."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sqnr_db(loaded, reference, feeds: list[dict]) -> float:
    """Of the worst output, over all feeds."""
    pairs = [(reference.run(None, feed), loaded.run(None, feed)) for feed in feeds]
    ratios = []
    for place in range(len(pairs[0][0])):
        want = np.stack([one[place] for one, _ in pairs]).astype(np.float64)
        got = np.stack([other[place] for _, other in pairs]).astype(np.float64)
        ratios.append(10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()))
    return float(min(ratios))
