import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq import registry
from edgeq.core.model import TensorSpec
from edgeq.core.project import Input
from edgeq.datasets import stored
from edgeq.errors import DataError


def image_input(height=4, width=6, channels=3):
    return (TensorSpec(name="image", shape=(1, height, width, channels), dtype="float32"),)


def read(path, inputs, settings=None, limit=None):
    name = {".npy": "npy", ".npz": "npz"}.get(path.suffix, "images")
    reader = registry.find("datasets", name)
    assert reader.recognises(path)
    return reader.read(path, inputs, settings or Input(), limit)


def save_image(path: Path, color=(10, 20, 30), size=(6, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)


@pytest.fixture
def classes(tmp_path):
    for name, count in (("cat", 2), ("dog", 3), ("ape", 1)):
        for number in range(count):
            save_image(tmp_path / "data" / name / f"{number}.png", (number, len(name), 0))
    return tmp_path / "data"


def test_class_folders_are_the_labels_in_sorted_order(classes):
    samples = read(classes, image_input())
    assert samples.label_names == ("ape", "cat", "dog")
    assert samples.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert samples.inputs[0].shape == (6, 4, 6, 3)
    assert samples.inputs[0][:, 0, 0, 0].tolist() == [0, 0, 1, 0, 1, 2]
    assert samples.inputs[0].dtype == np.float32


def test_a_flat_folder_has_no_labels(tmp_path):
    save_image(tmp_path / "b.png", (1, 0, 0))
    save_image(tmp_path / "a.jpg", (0, 0, 0))
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    samples = read(tmp_path, image_input())
    assert samples.labels is None
    assert samples.inputs[0][:, 0, 0, 0].tolist() == [0, 1]


def test_a_limit_is_spread_evenly(classes):
    assert read(classes, image_input(), limit=3).labels.tolist() == [0, 1, 2]


def test_files_that_are_no_images_are_left_out_and_told(classes):
    (classes / "cat" / "notes.txt").write_text("x")
    assert "1 files that are no images" in read(classes, image_input()).warnings[0]


def test_folders_whose_names_are_whole_numbers_are_the_classes_of_those_numbers(tmp_path):
    for name in ("0", "2", "10"):
        save_image(tmp_path / "gaps" / name / "a.png")
    samples = read(tmp_path / "gaps", image_input())
    assert sorted(samples.labels.tolist()) == [0, 2, 10]
    assert samples.label_names == ()
    for name in ("00", "01"):
        save_image(tmp_path / "all" / name / "a.png")
    assert read(tmp_path / "all", image_input()).label_names == ("00", "01")
    for name in ("20240101", "20240102"):
        save_image(tmp_path / "dates" / name / "a.png")
    assert read(tmp_path / "dates", image_input()).labels.tolist() == [0, 1]


def test_a_class_folder_without_images_keeps_its_number(classes):
    (classes / "bee").mkdir()
    samples = read(classes, image_input())
    assert samples.label_names == ("ape", "bee", "cat", "dog")
    assert samples.labels.tolist() == [0, 2, 2, 3, 3, 3]
    assert "class folders without images: bee" in samples.warnings[0]


def test_a_value_beyond_float32_is_told_with_its_sample(tmp_path):
    values = np.zeros((5, 4))
    values[3, 1] = 1e300
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=r"sample 3 of .*a.npy has values beyond float32"):
        read(tmp_path / "a.npy", FOUR)


def test_images_beside_class_folders_are_refused(classes):
    save_image(classes / "stray.png")
    with pytest.raises(DataError, match=r"images beside class folders, as stray.png"):
        read(classes, image_input())


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        read(tmp_path, image_input())


def test_scale_mean_and_std_are_applied_per_channel(tmp_path):
    save_image(tmp_path / "a.png", (10, 20, 30))
    settings = Input(scale=0.5, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    pixel = read(tmp_path, image_input(), settings).inputs[0][0, 0, 0]
    assert pixel.tolist() == [4.0, 4.0, 3.0]


def test_colors_are_reordered_or_turned_gray(tmp_path):
    save_image(tmp_path / "a.png", (10, 20, 30))
    bgr = read(tmp_path, image_input(), Input(color="bgr")).inputs[0]
    assert bgr[0, 0, 0].tolist() == [30, 20, 10]
    gray = read(tmp_path, image_input(channels=1)).inputs[0]
    assert gray.shape == (1, 4, 6, 1)
    assert gray[0, 0, 0, 0] == 18  # ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B


def test_channels_first_and_inputs_without_a_channel_axis_are_filled(tmp_path):
    save_image(tmp_path / "a.png", (10, 20, 30))
    first = read(tmp_path, (TensorSpec(name="x", shape=(1, 3, 4, 6), dtype="float32"),)).inputs[0]
    assert first.shape == (1, 3, 4, 6)
    assert first[0, :, 0, 0].tolist() == [10, 20, 30]
    flat = read(tmp_path, (TensorSpec(name="x", shape=(1, 4, 6), dtype="float32"),)).inputs[0]
    assert flat.shape == (1, 4, 6)


def test_an_image_of_another_size_is_resized_bilinearly(tmp_path):
    save_image(tmp_path / "a.png", (10, 20, 30), size=(60, 40))
    array = read(tmp_path, image_input()).inputs[0]
    assert array.shape == (1, 4, 6, 3)
    assert array[0, 3, 5].tolist() == [10, 20, 30]


def test_the_orientation_in_exif_is_applied(tmp_path):
    image = Image.new("RGB", (4, 6), (0, 0, 0))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise: Exif 2.3, tag Orientation
    image.save(tmp_path / "a.png", exif=exif)
    array = read(tmp_path, image_input()).inputs[0]
    assert array[0, 0, 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Input(size=(8, 8)), "takes 4 x 6"),
        (Input(color="gray"), "takes 3 channels"),
        (Input(mean=(1.0, 2.0)), r"has 2 numbers for \[input\] mean"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(tmp_path, settings, message):
    save_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        read(tmp_path, image_input(), settings)


def test_images_for_a_model_that_takes_none_are_refused(tmp_path):
    save_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="which is no image"):
        read(tmp_path, (TensorSpec(name="x", shape=(1, 40), dtype="float32"),))
    with pytest.raises(DataError, match="2 inputs"):
        read(tmp_path, image_input() * 2)


@pytest.mark.parametrize("keep", [0, 20, 200])
def test_a_corrupt_image_is_named(tmp_path, keep):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    (tmp_path / "bad.png").write_bytes(buffer.getvalue()[:keep])
    with pytest.raises(DataError, match=r"bad\.png is"):
        read(tmp_path, image_input())


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(b"\0" * 1000)
    png += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(DataError, match=r"bomb\.png"):
        read(tmp_path, image_input())


FOUR = (TensorSpec(name="x", shape=(1, 4), dtype="float32"),)


def test_npy_gives_samples_without_labels(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.int16).reshape(3, 4))
    samples = read(tmp_path / "a.npy", FOUR, Input(scale=2.0))
    assert samples.inputs[0].tolist() == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]
    assert samples.labels is None


def test_fortran_order_and_axes_of_one_are_taken(tmp_path):
    array = np.asfortranarray(np.arange(8.0).reshape(2, 4, 1))
    np.save(tmp_path / "a.npy", array)
    assert read(tmp_path / "a.npy", FOUR).inputs[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_npz_gives_features_and_labels(tmp_path):
    np.savez(tmp_path / "a.npz", features=np.zeros((3, 4)), labels=np.array([2, 0, 1]))
    samples = read(tmp_path / "a.npz", FOUR)
    assert samples.labels.tolist() == [2, 0, 1]
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((3, 4)), labels=np.eye(3))
    assert read(tmp_path / "b.npz", FOUR).labels.tolist() == [0, 1, 2]


def test_npz_gives_an_array_for_each_of_several_inputs(tmp_path):
    two = (*FOUR, TensorSpec(name="y", shape=(1, 2), dtype="float32"))
    np.savez(tmp_path / "a.npz", y=np.ones((3, 2)), x=np.zeros((3, 4)))
    samples = read(tmp_path / "a.npz", two, limit=2)
    assert [array.shape for array in samples.inputs] == [(2, 4), (2, 2)]
    np.savez(tmp_path / "b.npz", y=np.ones((3, 2)), x=np.zeros((2, 4)))
    with pytest.raises(DataError, match="differ in length: x 2, y 3"):
        read(tmp_path / "b.npz", two)
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 4)))
    with pytest.raises(DataError, match="no array called y; it has x"):
        read(tmp_path / "c.npz", two)
    np.save(tmp_path / "d.npy", np.zeros((2, 4)))
    with pytest.raises(DataError, match="one array, but the model has 2 inputs"):
        read(tmp_path / "d.npy", two)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((3, 4))}, "no array called features; it has data"),
        ({"features": np.zeros((3, 5))}, r"samples of shape \(5\), but input x takes \(4\)"),
        ({"features": np.zeros((0, 4))}, "holds no samples"),
        ({"features": np.array(1.0)}, "holds no samples"),
        ({"features": np.array([["a"] * 4])}, "not numbers"),
        ({"features": np.zeros((3, 4)), "labels": np.zeros(2)}, r"labels of shape \(2\)"),
        ({"features": np.zeros((3, 4)), "labels": np.array([0, 0.5, 1])}, "not whole numbers"),
        ({"features": np.zeros((3, 4)), "labels": np.array([0, -1, 1])}, "is -1; classes count"),
        ({"features": np.zeros((3, 4)), "labels": np.array(["a", "b", "c"])}, "not numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.npz", FOUR)


def test_python_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trace",))

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", features=np.array([Trap()], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match="Python objects"):
            read(tmp_path / name, FOUR)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("keep", [0, 30, 200])
def test_a_damaged_file_is_named(tmp_path, name, keep):
    save = np.save if name == "a.npy" else np.savez
    save(tmp_path / name, np.zeros((30, 4)))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:keep])
    with pytest.raises(DataError, match="is damaged"):
        read(tmp_path / name, FOUR)


def test_flipped_bits_in_a_compressed_array_are_found(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", features=np.random.default_rng(0).random((30, 4)))
    damaged = bytearray((tmp_path / "a.npz").read_bytes())
    damaged[300] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(DataError, match="is damaged"):
        read(tmp_path / "a.npz", FOUR)


def test_a_header_that_claims_too_much_is_refused_before_it_is_read(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 4), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", data)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match="larger than 4 GiB"):
            read(tmp_path / name, FOUR)


def test_stored_samples_come_back_as_they_were(tmp_path, classes):
    samples = read(classes, image_input())
    stored.write(samples, tmp_path)
    again = stored.read(tmp_path, "elsewhere")
    assert np.array_equal(again.inputs[0], samples.inputs[0])
    assert again.labels.tolist() == samples.labels.tolist()
    assert again.label_names == samples.label_names
    assert again.origin == "elsewhere"
    stored.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
