"""What happens to pictures in the field: noise, blur, brightness, contrast and JPEG, in 5 steps.

Definitions and parameters are those of Hendrycks & Dietterich 2019, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations": the authors made CIFAR-10-C for pictures of 32
pixels and ImageNet-C for 224. For sides between, a parameter lies between the two in proportion to
the logarithm of the shorter side; beyond them it is that of the nearer one, but for the blur,
whose width goes with the side. Pixels are 0 to 255 and whole again afterwards, as a camera's are.

Other data has no pixels: there is noise in proportion to a sample's own deviation, and a gain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Name = Literal["noise", "blur", "brightness", "contrast", "jpeg", "gain"]
NAMES: tuple[Name, ...] = ("noise", "blur", "brightness", "contrast", "jpeg", "gain")
OF_FEATURES = frozenset({"snr_db", "gain_factor"})
"""Parameters of what changes numbers that are no pixels."""

SEED = 2019
_SMALL_SIDE, _LARGE_SIDE = 32, 224
_WHITE = 255.0
# scipy.ndimage.gaussian_filter, which skimage.filters.gaussian calls: cut off at 4 sigma
_TRUNCATE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """One corruption at one strength.

    Attributes:
        severity: 1 to 5.
        parameter: What ``value`` is: ``sigma``, ``sigma_pixels``, ``shift``, ``factor`` or
            ``quality`` of pixels; ``snr_db`` or ``gain_factor`` of other numbers.
    """

    name: Name
    severity: int
    parameter: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """``small``: CIFAR-10-C's parameters (make_cifar_c.py). ``large``: ImageNet-C's."""

    name: Name
    parameter: str
    small: tuple[float, ...]
    large: tuple[float, ...]


_PIXEL_SCALES = (
    _Scale(
        name="noise",
        parameter="sigma",  # of 1, which is white
        small=(0.04, 0.06, 0.08, 0.09, 0.10),
        large=(0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    _Scale(
        name="blur",
        parameter="sigma_pixels",
        small=(0.4, 0.6, 0.7, 0.8, 1.0),
        large=(1.0, 2.0, 3.0, 4.0, 6.0),
    ),
    _Scale(
        name="brightness",
        parameter="shift",  # of the value in hue, saturation, value; of 1
        small=(0.05, 0.10, 0.15, 0.20, 0.30),
        large=(0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    _Scale(
        name="contrast",
        parameter="factor",  # of the distance from each channel's mean
        small=(0.75, 0.50, 0.40, 0.30, 0.15),
        large=(0.4, 0.3, 0.2, 0.1, 0.05),
    ),
    _Scale(
        name="jpeg",
        parameter="quality",
        small=(80, 65, 58, 50, 40),
        large=(25, 18, 15, 10, 7),
    ),
)
_FEATURE_NOISE_SNR_DB = (30.0, 25.0, 20.0, 15.0, 10.0)
_FEATURE_GAIN = (0.9, 0.8, 0.7, 0.6, 0.5)


def for_pixels(height: int, width: int) -> tuple[Corruption, ...]:
    """All that apply to pictures of a size, the mildest of each kind first."""
    return tuple(
        Corruption(
            name=scale.name,
            severity=place + 1,
            parameter=scale.parameter,
            value=_between(scale, place, min(height, width)),
        )
        for scale in _PIXEL_SCALES
        for place in range(len(scale.small))
    )


def for_features() -> tuple[Corruption, ...]:
    """All that apply to numbers that are no pixels."""
    scales: Sequence[tuple[Name, str, tuple[float, ...]]] = (
        ("noise", "snr_db", _FEATURE_NOISE_SNR_DB),
        ("gain", "gain_factor", _FEATURE_GAIN),
    )
    return tuple(
        Corruption(name=name, severity=place + 1, parameter=parameter, value=value)
        for name, parameter, values in scales
        for place, value in enumerate(values)
    )


def corrupt_pixels(pixels: Floats, corruption: Corruption, first: int) -> Floats:
    """Corrupt pictures of shape ``(count, height, width, channels)``, 0 to 255.

    Args:
        pixels: Red, green, blue, or gray.
        corruption: Any of ``for_pixels`` but ``jpeg``, which needs a codec.
        first: Number of the first picture, for the noise: each has its own, always the same.
    """
    shares = pixels / np.float32(_WHITE)
    match corruption.name:
        case "noise":
            changed = shares + np.float32(corruption.value) * _noise(
                pixels.shape, corruption, first
            )
        case "blur":
            changed = _blur(_blur(shares, corruption.value, axis=1), corruption.value, axis=2)
        case "brightness":
            changed = _brighter(shares, corruption.value)
        case "contrast":
            means = shares.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
            changed = (shares - means) * np.float32(corruption.value) + means
        case _:
            raise ValueError(f"{corruption.name} is none of pixels alone")
    return np.rint(np.clip(changed, 0, 1) * np.float32(_WHITE))


def corrupt_features(
    features: Floats, corruption: Corruption, first: int, place: int = 0
) -> Floats:
    """Corrupt samples of shape ``(count, …)``, before ``[input]`` of edgeq.toml is applied.

    ``place``: which of several inputs it is; each has noise of its own.
    """
    if corruption.name == "gain":
        return features * np.float32(corruption.value)
    rows = features.reshape(len(features), -1)
    deviation = rows.std(axis=1, dtype=np.float64) / 10 ** (corruption.value / 20)
    scale = deviation.astype(np.float32).reshape(-1, *[1] * (features.ndim - 1))
    changed: Floats = features + scale * _noise(features.shape, corruption, first, place)
    return changed


def _between(scale: _Scale, place: int, side: int) -> float:
    small, large = scale.small[place], scale.large[place]
    share = math.log(side / _SMALL_SIDE) / math.log(_LARGE_SIDE / _SMALL_SIDE)
    value = small + (large - small) * min(max(share, 0.0), 1.0)
    if scale.name == "blur":
        value *= max(side / _LARGE_SIDE, 1.0) * min(side / _SMALL_SIDE, 1.0)
    return float(round(value)) if scale.name == "jpeg" else value


def _noise(shape: tuple[int, ...], corruption: Corruption, first: int, place: int = 0) -> Floats:
    """Normally distributed; each sample's depends on its number only, not on its batch."""
    kind = NAMES.index(corruption.name)
    noise = np.empty(shape, np.float32)
    for row in range(shape[0]):
        generator = np.random.default_rng([SEED, kind, corruption.severity, place, first + row])
        noise[row] = generator.standard_normal(shape[1:], np.float32)
    return noise


def _blur(shares: Floats, sigma: float, *, axis: int) -> Floats:
    """A Gaussian along one axis; beyond the edge the edge's own value goes on."""
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    width = [(radius, radius) if place == axis else (0, 0) for place in range(shares.ndim)]
    padded = np.moveaxis(np.pad(shares, width, mode="edge"), axis, 0)
    length = shares.shape[axis]
    blurred = np.zeros_like(padded[:length])
    for place, weight in enumerate(weights):
        blurred += weight * padded[place : place + length]
    return np.moveaxis(blurred, 0, axis)


def _brighter(shares: Floats, shift: float) -> Floats:
    """Add to the value in hue, saturation, value, which is the largest channel's.

    Hue and saturation stay when all channels grow by the same factor; black has neither.
    """
    value = shares.max(axis=3, keepdims=True)
    wanted = np.clip(value + np.float32(shift), 0, 1)
    factor = np.divide(wanted, value, out=np.zeros_like(value), where=value > 0)
    brighter: Floats = np.where(value > 0, shares * factor, wanted)
    return brighter
