"""The corruptions against their definitions, reckoned with other tools."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from edgeq.core import corruptions
from edgeq.core.corruptions import Corruption, corrupt_features, corrupt_pixels
from edgeq.datasets import jpeg

PIXELS = np.random.default_rng(5).integers(0, 256, (3, 16, 12, 3)).astype(np.float32)
PIXELS[0, :2] = 0  # black has no hue


def made(name, value, severity=1):
    return Corruption(name=name, severity=severity, parameter="", value=value)


def parameters(side):
    found = {}
    for one in corruptions.for_pixels(side, 2 * side):
        found.setdefault(one.name, []).append(one.value)
    return found


def test_small_pictures_have_the_parameters_of_cifar_10_c():
    assert parameters(32) == {
        "noise": [0.04, 0.06, 0.08, 0.09, 0.10],
        "blur": [0.4, 0.6, 0.7, 0.8, 1.0],
        "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
        "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
        "jpeg": [80, 65, 58, 50, 40],
    }


def test_large_pictures_have_the_parameters_of_imagenet_c():
    expected = {
        "noise": [0.08, 0.12, 0.18, 0.26, 0.38],
        "blur": [1, 2, 3, 4, 6],
        "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
        "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
        "jpeg": [25, 18, 15, 10, 7],
    }
    found = parameters(224)
    assert found == {name: pytest.approx(values) for name, values in expected.items()}
    assert parameters(448)["blur"] == pytest.approx([2, 4, 6, 8, 12])
    assert parameters(448)["noise"] == pytest.approx(expected["noise"])


def test_sizes_between_lie_between_and_grow_with_the_strength():
    for side in (48, 96, 160):
        found = parameters(side)
        for name, small in parameters(32).items():
            large = parameters(224)[name]
            for low, value, high in zip(small, found[name], large, strict=True):
                assert min(low, high) <= value <= max(low, high)
        assert found["noise"] == sorted(found["noise"])
        assert found["contrast"] == sorted(found["contrast"], reverse=True)
    assert parameters(16)["blur"] == pytest.approx([0.2, 0.3, 0.35, 0.4, 0.5])


def test_blur_is_scipys_gaussian_filter():
    blurred = corrupt_pixels(PIXELS, made("blur", 1.3), 0)
    for picture, found in zip(PIXELS, blurred, strict=True):
        expected = ndimage.gaussian_filter(
            picture.astype(np.float64), sigma=(1.3, 1.3, 0), mode="nearest", truncate=4.0
        )
        assert np.abs(found - expected).max() <= 0.5 + 1e-3


def test_brightness_adds_to_the_value_of_hue_saturation_value():
    found = corrupt_pixels(PIXELS, made("brightness", 0.2), 0)
    for place in np.ndindex(PIXELS.shape[:3]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(PIXELS[place] / 255))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + 0.2))
        assert np.abs(found[place] - np.array(expected) * 255).max() <= 0.5 + 1e-3


def test_contrast_draws_every_channel_to_its_mean():
    found = corrupt_pixels(PIXELS, made("contrast", 0.3), 0)
    means = PIXELS.mean(axis=(1, 2), keepdims=True)
    assert np.abs(found - ((PIXELS - means) * 0.3 + means)).max() <= 0.5 + 1e-3


def test_noise_has_the_deviation_it_says_and_is_the_same_each_time():
    gray = np.full((4, 64, 64, 3), 128, np.float32)
    found = corrupt_pixels(gray, made("noise", 0.08), 0)
    assert (found - gray).std() / 255 == pytest.approx(0.08, rel=0.02)
    assert (found - gray).mean() == pytest.approx(0, abs=0.3)
    assert np.array_equal(found, corrupt_pixels(gray, made("noise", 0.08), 0))
    assert not np.array_equal(found, corrupt_pixels(gray, made("noise", 0.08, severity=2), 0))


def test_the_noise_of_a_sample_does_not_depend_on_its_chunk():
    whole = corrupt_pixels(PIXELS, made("noise", 0.1), 7)
    assert np.array_equal(whole[1:], corrupt_pixels(PIXELS[1:], made("noise", 0.1), 8))


@pytest.mark.parametrize(
    "one", corruptions.for_pixels(32, 32), ids=lambda c: f"{c.name}{c.severity}"
)
def test_pixels_stay_whole_numbers_from_0_to_255(one):
    if one.name == "jpeg":
        found = jpeg.recompress(PIXELS, int(one.value))
    else:
        found = corrupt_pixels(PIXELS, one, 0)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.rint(found))
    assert found.min() >= 0
    assert found.max() <= 255


def test_jpeg_is_pillows():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[1].astype(np.uint8)).save(buffer, "JPEG", quality=40)
    assert np.array_equal(jpeg.recompress(PIXELS, 40)[1], np.asarray(Image.open(buffer)))
    gray = PIXELS[..., :1]
    assert jpeg.recompress(gray, 40).shape == gray.shape


def test_features_get_noise_of_a_share_of_their_own_deviation():
    features = np.random.default_rng(2).normal(5, 3, (2, 50, 40)).astype(np.float32)
    features[1] *= 10
    found = corrupt_features(features, corruptions.for_features()[2], 0)  # 20 dB
    for clean, noisy in zip(features, found, strict=True):
        ratio = 20 * np.log10(clean.std() / (noisy - clean).std())
        assert ratio == pytest.approx(20, abs=0.3)
    again = corrupt_features(features, corruptions.for_features()[2], 0, place=1)
    assert not np.array_equal(found, again)
    halved = corrupt_features(features, corruptions.for_features()[-1], 0)
    assert np.array_equal(halved, features / 2)
