"""Data in chunks is the same data, and takes the memory of a chunk."""

import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from PIL import Image

from edgeq import registry
from edgeq.core.model import TensorSpec
from edgeq.core.project import Input
from edgeq.errors import DataError

ROW = (TensorSpec(name="x", shape=(1, 4), dtype="float32"),)
SETTINGS = Input(scale=0.5, mean=(1.0,), std=(2.0,))


def reader_of(path):
    return registry.find("datasets", {".npy": "npy", ".npz": "npz"}.get(path.suffix, "images"))


def joined(path, inputs, batch, settings=SETTINGS):
    chunks = list(reader_of(path).stream(path, inputs, settings, batch))
    arrays = [np.concatenate(parts) for parts in zip(*(c.inputs for c in chunks), strict=True)]
    labels = None if chunks[0].labels is None else np.concatenate([c.labels for c in chunks])
    return arrays, labels, [chunk.count for chunk in chunks]


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(0, 1, (11, 4))


@pytest.mark.parametrize("batch", [1, 3, 11, 100])
@pytest.mark.parametrize("kind", ["npy", "npy-fortran", "npz", "npz-deflated", "npz-fortran"])
def test_a_stream_gives_what_read_gives(tmp_path, features, kind, batch):
    array = np.asfortranarray(features) if kind.endswith("fortran") else features
    path = tmp_path / f"data.{kind[:3]}"
    labels = np.arange(11) % 3
    if kind.startswith("npy"):
        np.save(path, array)
    else:
        save = np.savez_compressed if kind == "npz-deflated" else np.savez
        save(path, features=array, labels=labels)
    whole = reader_of(path).read(path, ROW, SETTINGS)
    arrays, found, counts = joined(path, ROW, batch)
    assert np.array_equal(arrays[0], whole.inputs[0])
    assert max(counts) <= batch
    if path.suffix == ".npz":
        assert np.array_equal(found, whole.labels)
        assert np.array_equal(found, labels)
    facts = reader_of(path).describe(path, ROW, SETTINGS)
    assert (facts.samples, facts.labelled) == (11, path.suffix == ".npz")


def test_several_inputs_stream_side_by_side(tmp_path, features):
    two = (*ROW, TensorSpec(name="y", shape=(1, 2), dtype="float32"))
    np.savez(tmp_path / "a.npz", y=features[:, :2], x=features)
    arrays, _, _ = joined(tmp_path / "a.npz", two, 4, Input())
    assert np.array_equal(arrays[0], features.astype(np.float32))
    assert np.array_equal(arrays[1], features[:, :2].astype(np.float32))


def test_a_folder_streams_what_read_gives(tmp_path):
    generator = np.random.default_rng(1)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = generator.integers(0, 256, (9, 7, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    for color in ("rgb", "bgr"):
        settings = Input(color=color, mean=(1.0, 2.0, 3.0))
        inputs = (TensorSpec(name="x", shape=(1, 3, 6, 5), dtype="float32"),)
        whole = reader_of(tmp_path).read(tmp_path, inputs, settings)
        arrays, labels, counts = joined(tmp_path, inputs, 3, settings)
        assert np.array_equal(arrays[0], whole.inputs[0])
        assert np.array_equal(labels, whole.labels)
        assert counts == [3, 3, 2]
    facts = reader_of(tmp_path).describe(tmp_path, inputs, settings)
    assert (facts.samples, facts.picture, facts.label_names) == (8, (6, 5), ("cat", "dog"))


def test_pictures_are_altered_before_anything_else(tmp_path):
    Image.new("RGB", (5, 6), (10, 20, 30)).save(tmp_path / "a.png")
    inputs = (TensorSpec(name="x", shape=(1, 3, 6, 5), dtype="float32"),)
    settings = Input(color="bgr", scale=2.0)
    seen = []

    def alter(pixels, first, place):
        seen.append((pixels[0, 0, 0].tolist(), pixels.shape, first, place))
        return pixels + 1

    (chunk,) = reader_of(tmp_path).chunks(tmp_path, inputs, settings, 10)
    assert chunk.samples(alter).inputs[0][0, :, 0, 0].tolist() == [62, 42, 22]
    assert chunk.samples().inputs[0][0, :, 0, 0].tolist() == [60, 40, 20]
    assert seen == [([10, 20, 30], (1, 6, 5, 3), 0, 0)]


@pytest.mark.parametrize("shape", [(1, 6, 5, 3), (1, 3, 6, 5)])
def test_bytes_of_the_shape_of_pictures_are_pictures(tmp_path, shape):
    pixels = np.random.default_rng(4).integers(0, 256, (4, *shape[1:]), np.uint8)
    np.savez(tmp_path / "a.npz", features=pixels)
    np.save(tmp_path / "b.npy", pixels.astype(np.float32))
    inputs = (TensorSpec(name="x", shape=shape, dtype="float32"),)
    reader = reader_of(tmp_path / "a.npz")
    assert reader.describe(tmp_path / "a.npz", inputs, Input()).picture == (6, 5)
    plain = reader_of(tmp_path / "b.npy").describe(tmp_path / "b.npy", inputs, Input())
    assert plain.picture is None
    shapes = []

    def alter(images, first, _):
        shapes.append((images.shape, first))
        return images * 2

    chunks = list(reader.chunks(tmp_path / "a.npz", inputs, Input(), 3))
    found = np.concatenate([chunk.samples(alter).inputs[0] for chunk in chunks])
    assert np.array_equal(found, pixels * np.float32(2))
    assert shapes == [((3, 6, 5, 3), 0), ((1, 6, 5, 3), 3)]


def test_samples_spread_evenly_are_picked_from_a_stream(tmp_path, features):
    np.save(tmp_path / "a.npy", features)
    picked = reader_of(tmp_path / "a.npy").read(tmp_path / "a.npy", ROW, Input(), 4)
    assert np.array_equal(picked.inputs[0], features[[0, 2, 5, 8]].astype(np.float32))
    np.savez(tmp_path / "a.npz", features=features, labels=np.arange(11))
    picked = reader_of(tmp_path / "a.npz").read(tmp_path / "a.npz", ROW, Input(), 4)
    assert picked.labels.tolist() == [0, 2, 5, 8]


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_file_that_is_cut_short_is_found_before_the_first_sample(tmp_path, features, suffix):
    path = tmp_path / f"a.{suffix}"
    np.save(tmp_path / "whole.npy", features)
    data = (tmp_path / "whole.npy").read_bytes()[:-8]
    if suffix == "npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("features.npy", data)
    with pytest.raises(DataError, match="is damaged"):
        next(reader_of(path).chunks(path, ROW, Input(), 2))


def test_flipped_bits_are_found_at_the_end_at_the_latest(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, features=np.zeros((30, 4)))
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        list(reader_of(path).stream(path, ROW, Input(), 7))


def test_a_value_beyond_float32_is_told_with_its_number_in_the_file(tmp_path, features):
    features[9, 0] = 1e300
    np.save(tmp_path / "a.npy", features)
    with pytest.raises(DataError, match="sample 9 of"):
        list(reader_of(tmp_path / "a.npy").stream(tmp_path / "a.npy", ROW, Input(), 4))


LIMIT_MIB = 400
STREAMING = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from edgeq import registry
    from edgeq.core.model import TensorSpec
    from edgeq.core.project import Input

    path, limit = Path(sys.argv[1]), int(sys.argv[2]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    inputs = (TensorSpec(name="x", shape=(1, 65536), dtype="float32"),)
    reader = registry.find("datasets", path.suffix[1:])
    total = rows = 0
    for samples in reader.stream(path, inputs, Input(), 16):
        total += float(samples.inputs[0].sum(dtype=np.float64))
        rows += samples.count
    print(rows, total)
    """
)


@pytest.mark.parametrize("kind", ["npy", "npz", "npz-deflated"])
def test_data_larger_than_the_memory_limit_streams(tmp_path, kind):
    """512 MiB through a process that may not have more than 400 MiB of address space."""
    rows, width = 2048, 65536
    path = tmp_path / f"data.{kind[:3]}"
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    row = np.arange(width, dtype=np.float32) % 3
    if kind == "npy":
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for _ in range(rows):
                stream.write(row.tobytes())
    else:
        method = zipfile.ZIP_DEFLATED if kind.endswith("deflated") else zipfile.ZIP_STORED
        with (
            zipfile.ZipFile(path, "w", method, compresslevel=1) as archive,
            archive.open("features.npy", "w", force_zip64=True) as stream,
        ):
            np.lib.format.write_array_header_1_0(stream, header)
            for _ in range(rows):
                stream.write(row.tobytes())
    assert rows * width * 4 > LIMIT_MIB << 20
    done = subprocess.run(
        [sys.executable, "-c", STREAMING, str(path), str(LIMIT_MIB)],
        capture_output=True,
        text=True,
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stderr == ""
    assert done.stdout.split() == [str(rows), str(float(rows) * float(row.sum()))]
