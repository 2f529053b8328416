"""A folder of images; its sub-folders, if any, are the classes.

Folders whose names are all whole numbers are the classes of those numbers, from 0. Else the classes
are numbered from 0 in the sorted order of the names; a folder without images keeps its number.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.datasets import tensors
from edgeq.errors import DataError
from edgeq.ports import TensorSpecs

_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
_MAX_PIXELS = 100_000_000  # 300 MB as RGB; a 100-megapixel photograph still passes
_MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}
_SHOWN = 3
_MAX_DIGITS = 6  # a longer name is a date or an article's number, which no model counts to


def make() -> "ImageFolder":
    return ImageFolder()


class ImageFolder:
    def recognises(self, path: Path) -> bool:
        return path.is_dir()

    def read(
        self, path: Path, inputs: TensorSpecs, settings: Input, limit: int | None = None
    ) -> Samples:
        """See ``ports.Dataset``. An image of another size is resized (bilinear, whole image)."""
        if len(inputs) != 1:
            raise DataError(
                f"{path} is a folder of images, but the model has {len(inputs)} inputs",
                hint="give an .npz with one array for each: " + ", ".join(s.name for s in inputs),
            )
        layout = tensors.image_layout(inputs[0], settings)
        files, labels, names, notes = _listing(path)
        chosen = spread(len(files), limit)
        if len(chosen) * 4 * math.prod(layout.shape) > tensors.MAX_BYTES:
            raise DataError(
                f"the {len(chosen)} images in {path} would take more than 4 GiB of memory",
                hint="give fewer images",
            )
        pixels = np.empty((len(chosen), *layout.shape), np.float32)
        for place, index in enumerate(chosen):
            pixels[place] = _read_image(files[index], layout)
        array = tensors.preprocess(pixels, settings, f"{path}")
        return Samples(
            inputs=(layout.arrange(array),),
            labels=None if labels is None else labels[chosen],
            label_names=names,
            origin=str(path),
            sha256="",
            warnings=notes,
        )


def _listing(
    path: Path,
) -> tuple[list[Path], npt.NDArray[np.int64] | None, tuple[str, ...], tuple[str, ...]]:
    """Images in a fixed order, labels, class names, and what was odd."""
    try:
        flat = sorted(item for item in path.iterdir() if _is_image(item))
        folders = sorted(item for item in path.iterdir() if _is_visible_folder(item))
        classes = {f.name: sorted(i for i in f.rglob("*") if _is_image(i)) for f in folders}
        notes = tuple(_odd_files(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if not any(classes.values()):
        classes = {}
    if flat and classes:
        raise DataError(
            f"{path} holds images beside class folders, as {flat[0].name} beside "
            f"{next(iter(classes))}/",
            hint="put each image into a class folder, or all into one folder without classes",
        )
    if not flat and not classes:
        raise DataError(
            f"{path} holds no images",
            hint=f"known kinds: {' '.join(sorted(_SUFFIXES))}",
        )
    if flat:
        return flat, None, (), notes
    numbers = _numbers(tuple(classes))
    labels = [
        number for number, images in zip(numbers, classes.values(), strict=True) for _ in images
    ]
    files = [image for images in classes.values() for image in images]
    names = tuple(classes) if numbers == list(range(len(classes))) else ()
    empty = [name for name, images in classes.items() if not images]
    if empty:
        notes += (f"{path} has class folders without images: {_named(empty)}",)
    return files, np.array(labels, np.int64), names, notes


def _numbers(names: Sequence[str]) -> list[int]:
    """The class numbers of folders in sorted order: what they say, or their place."""
    if all(name.isascii() and name.isdecimal() and len(name) <= _MAX_DIGITS for name in names):
        return [int(name) for name in names]
    return list(range(len(names)))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _is_image(path: Path) -> bool:
    visible = not path.name.startswith(".")
    return visible and path.suffix.lower() in _SUFFIXES and path.is_file()


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _odd_files(path: Path) -> Iterator[str]:
    odd = sorted(
        item.name
        for item in path.rglob("*")
        if item.is_file() and not item.name.startswith(".") and not _is_image(item)
    )
    if odd:
        yield f"{path} holds {len(odd)} files that are no images and were left out: {_named(odd)}"


def _read_image(path: Path, layout: tensors.ImageLayout) -> npt.NDArray[np.float32]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow only warns below twice its own limit; ours is checked from the header
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise DataError(
                        f"{path} has {image.width} x {image.height} pixels, over 100 million"
                    )
                upright = ImageOps.exif_transpose(image).convert(_MODES[layout.color])
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image that can be read") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        EOFError,
        IndexError,
    ) as error:
        raise DataError(f"{path} is damaged: {error}", hint="replace or remove it") from error
    if upright.size != (layout.width, layout.height):
        upright = upright.resize((layout.width, layout.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(upright, np.float32).reshape(layout.shape)
    return pixels[..., ::-1] if layout.color == "bgr" else pixels
