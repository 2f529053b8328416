import contextlib
import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core import bundle
from edgeq.core.profile import Budgets
from edgeq.errors import BundleError

MODEL = "model.tflite"
FILES = {
    MODEL: b"model" * 100,
    bundle.GOLDEN_INPUTS: b"in",
    bundle.GOLDEN_OUTPUTS: b"out",
    bundle.PREPROCESSING: b"{}",
}


def make(files=FILES, **changes):
    fields = {
        "name": "digits",
        "version": 3,
        "profile": "pi4",
        "format": "tflite",
        "precision": "int8",
        "requested_precision": "int8",
        "inputs": (bundle.Tensor(name="x", shape=(1, 8), dtype="int8", scale=0.5, zero_point=-3),),
        "outputs": (),
        "files": bundle.describe(files),
        "source": bundle.SourceEntry(name="d.h5", kind="keras-h5", sha256="a" * 64, size_bytes=1),
        "tools": {"keras": "3"},
        "quality": bundle.QualityEntry(samples=8, origin="random"),
        "budgets": Budgets(),
        **changes,
    }
    return bundle.seal(bundle.Manifest(**fields), files)


def zipped(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return out.getvalue()


def rejected(data):
    with pytest.raises(BundleError) as caught:
        bundle.unpack(data, "x.edgeq")
    assert caught.value.exit_code == 5
    return caught.value.message


def test_what_is_packed_comes_out_again():
    packed = make()
    assert bundle.unpack(bundle.pack(packed), "x.edgeq") == packed


def test_the_same_contents_give_the_same_bytes():
    reordered = dict(reversed(FILES.items()))
    assert bundle.pack(make()) == bundle.pack(make(reordered))


def test_the_release_names_version_and_contents():
    one, other = make(), make({**FILES, MODEL: b"other"})
    assert one.release.startswith("3-")
    assert one.release != other.release


def test_a_changed_file_is_found():
    good = make()
    entries = [(name, data) for name, data in good.contents.items() if name != MODEL]
    assert "hash" in rejected(zipped([*entries, (MODEL, b"MODEL" * 100)]))


@given(st.data())
def test_no_flipped_byte_of_a_bundle_goes_unseen(data):
    good = make()
    packed = bytearray(bundle.pack(good))
    where = data.draw(st.integers(0, len(packed) - 1))
    packed[where] ^= data.draw(st.integers(1, 255))
    # A byte that says nothing, such as a time of day, may change.
    with contextlib.suppress(BundleError):
        assert bundle.unpack(bytes(packed), "x.edgeq") == good


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "notes.txt", "manifest.json/"])
def test_a_file_that_does_not_belong_is_refused(name):
    entries = list(make().contents.items())
    assert "does not belong" in rejected(zipped([*entries, (name, b"x")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_stands_twice_is_refused():
    entries = list(make().contents.items())
    assert "twice" in rejected(zipped([*entries, (MODEL, b"other")]))


def test_a_link_is_refused():
    contents = make().contents
    link = zipfile.ZipInfo(MODEL)
    link.external_attr = 0o120777 << 16
    entries = [(name, data) for name, data in contents.items() if name != MODEL]
    assert "plain file" in rejected(zipped([*entries, (link, b"/etc/passwd")]))


@pytest.mark.parametrize("name", [bundle.MANIFEST, MODEL, bundle.GOLDEN_OUTPUTS])
def test_a_missing_file_is_named(name):
    entries = [(key, data) for key, data in make().contents.items() if key != name]
    assert name in rejected(zipped(entries))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema": "edgeq.manifest/9"}, "schema"),
        ({"version": 0}, "version"),
        ({"name": "../x"}, "name"),
        ({"extra": 1}, "extra"),
        ({"files": {}}, "files"),
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(change, word):
    contents = make().contents
    fields = {**json.loads(contents[bundle.MANIFEST]), **change}
    entries = {**contents, bundle.MANIFEST: json.dumps(fields).encode()}
    assert word in rejected(zipped(entries.items()))


def test_a_key_that_stands_twice_in_the_manifest_is_refused():
    contents = make().contents
    text = contents[bundle.MANIFEST].replace(b'"version": 3', b'"version": 3, "version": 2')
    assert "twice" in rejected(zipped({**contents, bundle.MANIFEST: text}.items()))


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all", bytes(1000)])
def test_what_is_no_zip_is_refused(data):
    assert "x.edgeq" in rejected(data)


def test_a_truncated_bundle_is_refused():
    packed = bundle.pack(make())
    assert rejected(packed[: len(packed) // 2])
