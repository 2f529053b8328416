"""Pictures written as JPEG and read again, as a camera or a network does."""

import io

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_GRAY = 1


def recompress(pixels: Floats, quality: int) -> Floats:
    """Pictures of shape ``(count, height, width, 1 or 3)``, whole numbers from 0 to 255."""
    again = np.empty_like(pixels)
    for place, picture in enumerate(pixels.astype(np.uint8)):
        again[place] = _recompress(picture, quality)
    return again


def _recompress(picture: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    buffer = io.BytesIO()
    flat = picture[..., 0] if picture.shape[2] == _GRAY else picture
    Image.fromarray(flat).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image, np.uint8).reshape(picture.shape)
