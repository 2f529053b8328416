"""A folder of images; its sub-folders, if any, are the classes.

Folders whose names are all whole numbers are the classes of those numbers, from 0. Else the classes
are numbered from 0 in the sorted order of the names; a folder without images keeps its number.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.core.project import Input
from edgeq.core.samples import Samples, spread
from edgeq.datasets import tensors
from edgeq.errors import DataError
from edgeq.ports import Alter, Chunk, DataFacts, TensorSpecs

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
        folder = _Folder.of(path, inputs, settings)
        chosen = spread(len(folder.files), limit)
        if len(chosen) * 4 * math.prod(folder.layout.shape) > tensors.MAX_BYTES:
            raise DataError(
                f"the {len(chosen)} images in {path} would take more than 4 GiB of memory",
                hint="give fewer images",
            )
        return folder.chunk(chosen).samples()

    def describe(self, path: Path, inputs: TensorSpecs, settings: Input) -> DataFacts:
        """See ``ports.Dataset``."""
        folder = _Folder.of(path, inputs, settings)
        return DataFacts(
            samples=len(folder.files),
            labelled=folder.labels is not None,
            label_names=folder.label_names,
            picture=(folder.layout.height, folder.layout.width),
            warnings=folder.notes,
        )

    def chunks(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Chunk]:
        """See ``ports.Dataset``."""
        folder = _Folder.of(path, inputs, settings)
        places = np.arange(len(folder.files), dtype=np.int64)
        for start in range(0, len(places), batch):
            yield folder.chunk(places[start : start + batch])

    def stream(
        self, path: Path, inputs: TensorSpecs, settings: Input, batch: int
    ) -> Iterator[Samples]:
        """See ``ports.Dataset``."""
        for chunk in self.chunks(path, inputs, settings, batch):
            yield chunk.samples()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Folder:
    """What a folder holds. ``notes``: what was odd about it."""

    path: Path
    settings: Input
    layout: tensors.ImageLayout
    files: list[Path]
    labels: npt.NDArray[np.int64] | None
    label_names: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, inputs: TensorSpecs, settings: Input) -> "_Folder":
        """List it.

        Raises:
            DataError: it cannot be listed, or the model takes no images.
        """
        if len(inputs) != 1:
            raise DataError(
                f"{path} is a folder of images, but the model has {len(inputs)} inputs",
                hint="give an .npz with one array for each: " + ", ".join(s.name for s in inputs),
            )
        layout = tensors.image_layout(inputs[0], settings)
        files, labels, names, notes = _listing(path)
        return cls(
            path=path,
            settings=settings,
            layout=layout,
            files=files,
            labels=labels,
            label_names=names,
            notes=notes,
        )

    def chunk(self, places: npt.NDArray[np.int64]) -> "_ImageChunk":
        """Read some of the images, resized.

        Raises:
            DataError: one is damaged.
        """
        pixels = np.empty((len(places), *self.layout.shape), np.float32)
        for place, number in enumerate(places):
            pixels[place] = _read_image(self.files[number], self.layout)
        return _ImageChunk(folder=self, pixels=pixels, places=places)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ImageChunk:
    """``pixels``: (count, height, width, channels), gray or red, green, blue, 0 to 255."""

    folder: _Folder
    pixels: tensors.Floats
    places: npt.NDArray[np.int64]

    def samples(self, alter: Alter | None = None) -> Samples:
        """See ``ports.Chunk``."""
        folder, layout = self.folder, self.folder.layout
        pixels = self.pixels if alter is None else alter(self.pixels, int(self.places[0]), 0)
        if layout.color == "bgr":
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        array = tensors.preprocess(pixels, folder.settings, f"{folder.path}")
        return Samples(
            inputs=(layout.arrange(array),),
            labels=None if folder.labels is None else folder.labels[self.places],
            label_names=folder.label_names,
            origin=str(folder.path),
            sha256="",
            warnings=folder.notes,
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
    return np.asarray(upright, np.float32).reshape(layout.shape)
