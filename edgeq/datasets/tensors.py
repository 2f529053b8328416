"""Arrays on their way to a model's input: layout, preprocessing, checks of shape and type."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.model import TensorSpec
from edgeq.core.project import Input
from edgeq.errors import DataError

Floats = npt.NDArray[np.float32]
MAX_BYTES = 4 << 30
_IMAGE_RANK = 4
_GRAY_RANK = 3
_RGB = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """How an input takes images. ``channels_first``: (channels, height, width)."""

    height: int
    width: int
    channels: Literal[1, 3]
    color: Literal["rgb", "bgr", "gray"]
    channels_first: bool
    has_channel_axis: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    def arrange(self, images: Floats) -> Floats:
        """(count, height, width, channels) as the model wants it."""
        if not self.has_channel_axis:
            return images[..., 0]
        return np.ascontiguousarray(np.moveaxis(images, 3, 1)) if self.channels_first else images

    def as_images(self, samples: Floats) -> Floats:
        """What ``arrange`` gives, as (count, height, width, channels) again."""
        if not self.has_channel_axis:
            return samples[..., None]
        return np.moveaxis(samples, 1, 3) if self.channels_first else samples


def image_layout(spec: TensorSpec, settings: Input) -> ImageLayout:
    """What ``spec`` says about images.

    Raises:
        DataError: it takes no images, or other ones than edgeq.toml says.
    """
    height, width, channels, first = _image_sides(spec)
    if settings.size and settings.size != (height, width):
        raise DataError(
            f"edgeq.toml says [input] size = {list(settings.size)}, but input {spec.name} takes "
            f"{height} x {width} (height x width)",
            hint=f"write size = [{height}, {width}], or leave it out",
        )
    color = settings.color or ("rgb" if channels == _RGB else "gray")
    if (color == "gray") != (channels == 1):
        raise DataError(
            f'edgeq.toml says [input] color = "{color}", but input {spec.name} takes {channels} '
            f"channel{'s' if channels > 1 else ''}",
            hint='color is "rgb" or "bgr" for three channels, "gray" for one',
        )
    return ImageLayout(
        height=height,
        width=width,
        channels=3 if channels == _RGB else 1,
        color=color,
        channels_first=first,
        has_channel_axis=len(spec.shape) == _IMAGE_RANK,
    )


def _image_sides(spec: TensorSpec) -> tuple[int, int, int, bool]:
    if len(spec.shape) == _GRAY_RANK:
        return spec.shape[1], spec.shape[2], 1, False
    if len(spec.shape) == _IMAGE_RANK:
        if spec.shape[3] in (1, _RGB):
            return spec.shape[1], spec.shape[2], spec.shape[3], False
        if spec.shape[1] in (1, _RGB):
            return spec.shape[2], spec.shape[3], spec.shape[1], True
    raise DataError(
        f"input {spec.name} takes {_shown(spec.shape)}, which is no image",
        hint="give an .npy or .npz file with arrays of that shape",
    )


def preprocess(array: Floats, settings: Input, origin: str) -> Floats:
    """``x * scale``, then ``(x - mean) / std`` along the last axis.

    Raises:
        DataError: there are more means than channels.
    """
    mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    for name, values in (("mean", mean), ("std", std)):
        if values.size > 1 and values.size != array.shape[-1]:
            if np.all(values == values[0]):
                continue
            raise DataError(
                f"edgeq.toml has {values.size} numbers for [input] {name}, but {origin} has "
                f"{array.shape[-1]} channels",
                hint=f"write one number, or {array.shape[-1]}",
            )
    mean, std = (v if v.size == array.shape[-1] else v[:1] for v in (mean, std))
    if settings.scale == 1.0 and not mean.any() and np.all(std == 1):
        return array
    scaled: Floats = (array * np.float32(settings.scale) - mean) / std
    return scaled


def refuse_shape(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], spec: TensorSpec, origin: str
) -> None:
    """Stop at an array that is not ``(count, …)`` of numbers for one input.

    Raises:
        DataError: another shape or type, or no samples.
    """
    if dtype.kind not in "fiub":
        raise DataError(f"{origin} holds {dtype}, not numbers")
    wanted = spec.shape[1:]
    if not shape or shape[0] == 0:
        raise DataError(f"{origin} holds no samples")
    if tuple(s for s in shape[1:] if s != 1) != tuple(s for s in wanted if s != 1):
        raise DataError(
            f"{origin} holds samples of shape {_shown(shape[1:])}, but input {spec.name} "
            f"takes {_shown(wanted)}",
            hint=f"save an array of shape (samples, {', '.join(map(str, wanted))})",
        )


def fit(array: npt.NDArray[np.generic], spec: TensorSpec, origin: str, first: int = 0) -> Floats:
    """Samples as float32 of shape ``(count, …)`` for one input; only axes of length 1 may differ.

    Args:
        array: Samples as they were saved.
        spec: The input.
        origin: What they are called.
        first: Number of the first one.

    Raises:
        DataError: another shape or type, or no samples.
    """
    refuse_shape(array.shape, array.dtype, spec, origin)
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(array.reshape(len(array), *spec.shape[1:]), dtype=np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > floats.dtype.itemsize:
        _refuse_lost(array, floats, origin, first)
    return floats


def _refuse_lost(array: npt.NDArray[np.generic], floats: Floats, origin: str, first: int) -> None:
    lost = (np.isinf(floats) & np.isfinite(array).reshape(floats.shape)).reshape(len(array), -1)
    if lost.any():
        raise DataError(
            f"sample {first + int(lost.any(axis=1).argmax())} of {origin} has values beyond "
            f"float32's range, {np.finfo(np.float32).max:.2g}",
            hint="remove them, or mend what wrote them",
        )


def fit_labels(array: npt.NDArray[np.generic], count: int, origin: str) -> npt.NDArray[np.int64]:
    """Labels as class numbers; rows of zeros with a single one are taken as such.

    Raises:
        DataError: not one whole, non-negative number for each sample.
    """
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"the labels in {origin} are {array.dtype}, not numbers",
            hint="save class numbers from 0",
        )
    if array.ndim == 2 and array.shape[1] > 1 and _is_one_hot(array):  # noqa: PLR2004
        array = array.argmax(axis=1)
    if array.size != count or len(array) != count:
        raise DataError(
            f"{origin} has {count} samples, but labels of shape {_shown(array.shape)}",
            hint=f"save labels of shape ({count},)",
        )
    numbers = array.reshape(count).astype(np.float64)
    if not np.all(np.isfinite(numbers)) or np.any(numbers != np.floor(numbers)):
        raise DataError(
            f"the labels in {origin} are not whole numbers, so no classes",
            hint="leave the array out: without it the outputs are compared with the float model's",
        )
    if np.any(numbers < 0):
        raise DataError(f"a label in {origin} is {int(numbers.min())}; classes count from 0")
    return numbers.astype(np.int64)


def in_order(
    arrays: Sequence[npt.NDArray[np.generic]],
    names: Sequence[str],
    specs: tuple[TensorSpec, ...],
    origin: Path,
) -> tuple[Floats, ...]:
    """One array for each input, all of the same length.

    Raises:
        DataError: one does not fit, or has another length.
    """
    fitted = tuple(
        fit(array, spec, f"{name} in {origin}")
        for array, name, spec in zip(arrays, names, specs, strict=True)
    )
    refuse_lengths([len(array) for array in fitted], specs, origin)
    return fitted


def refuse_lengths(lengths: Sequence[int], specs: tuple[TensorSpec, ...], origin: Path) -> None:
    """Stop at arrays that hold different numbers of samples.

    Raises:
        DataError: they do.
    """
    if len(set(lengths)) > 1:
        shown = ", ".join(f"{s.name} {n}" for s, n in zip(specs, lengths, strict=True))
        raise DataError(f"the arrays in {origin} differ in length: {shown}")


def _is_one_hot(array: npt.NDArray[np.generic]) -> bool:
    numbers = array.astype(np.float64)
    return bool(np.all((numbers == 0) | (numbers == 1)) and np.all(numbers.sum(axis=1) == 1))


def _shown(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
