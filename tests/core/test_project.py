import pytest

from edgeq.core import project
from edgeq.errors import ConfigError


def test_an_empty_file_is_the_defaults():
    parsed = project.parse("", "edgeq.toml")
    assert parsed.calibration.samples == 100
    assert parsed.input.value_range == (0.0, 255.0)
    assert parsed.evaluation.path is None


def test_the_documented_file_is_read():
    text = """
    [input]
    size = [32, 48]
    color = "bgr"
    scale = 0.5
    mean = [1.0, 2, 3.0]
    std = [1.0, 2.0, 4.0]
    [calibration]
    path = "calibration"
    samples = 10
    [evaluation]
    path = "eval"
    """
    parsed = project.parse(text, "edgeq.toml")
    assert parsed.input.size == (32, 48)
    assert parsed.input.mean == (1.0, 2.0, 3.0)
    assert parsed.calibration.path == "calibration"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[input]\nsizes = [1, 2]\n", "t:2: unknown key input.sizes", "did you mean size?"),
        ("[input]\ncolour = 'rgb'\n", "t:2: unknown key input.colour", "did you mean color?"),
        ("[input]\ncolor = 'rbg'\n", 't:2: input.color is "rbg"', ""),
        ("[input]\nsize = [32]\n", "t:2: input.size", ""),
        ("[input]\nstd = [0]\n", "t:2: input.std.0 is 0", ""),
        ("[input]\nmean = []\n", "t:2: input.mean is []", ""),
        ("[calibration]\nsamples = '9'\n", 't:2: calibration.samples is "9"', ""),
        ("[evaluation]\nsamples = 9\n", "t:2: unknown key evaluation.samples", "calibration.samp"),
    ],
)
def test_a_wrong_key_or_value_is_refused(text, message, hint):
    with pytest.raises(ConfigError) as caught:
        project.parse(text, "t")
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("", ()),
        ("[input]\nshape = [1, 3, 32, 32]", ((1, 3, 32, 32),)),
        ("[input]\nshape = [[1, 3, 8, 8], [1, 10]]", ((1, 3, 8, 8), (1, 10))),
    ],
)
def test_the_shape_of_one_input_or_of_each(text, shapes):
    assert project.parse(text, "edgeq.toml").input.shapes == shapes


@pytest.mark.parametrize("value", ['"x"', "[]", "[0, 3]", "[1, 2.5]", "[[1], 2]", "[[]]", "3"])
def test_a_shape_that_is_none_names_its_line(value):
    with pytest.raises(ConfigError, match=r"edgeq\.toml:2: input\.shape"):
        project.parse(f"[input]\nshape = {value}", "edgeq.toml")
