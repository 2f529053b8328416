"""``edgeq.toml``, the file beside a model that says how data becomes its input."""

from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from edgeq.core import strict

Side = Annotated[int, Field(ge=1, le=16384)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Axis = Annotated[int, Field(ge=1, le=1 << 31)]
Shape = Annotated[tuple[Axis, ...], Field(min_length=1, max_length=8)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Table):
    """From a file to a tensor: ``x * scale``, then ``(x - mean) / std`` per channel.

    Attributes:
        size: Height and width in pixels; None: what the model's input says.
        shape: Of the model's input with the batch, which is 1, or of each input, where the model
            leaves it open; None: what the model says.
        color: Order of an image's channels; None: ``rgb`` for three channels, ``gray`` for one.
        mean: One number for all channels, or one each.
        std: Likewise.
    """

    size: tuple[Side, Side] | None = None
    shape: Shape | Annotated[tuple[Shape, ...], Field(min_length=1)] | None = None
    color: Literal["rgb", "bgr", "gray"] | None = None
    scale: Number = 1.0
    mean: Annotated[tuple[Number, ...], Field(min_length=1)] = (0.0,)
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all inputs, in order; empty when it is not said."""
        first, *_ = self.shape or (None,)
        if isinstance(first, int):
            return (cast("tuple[int, ...]", self.shape),)
        return cast("tuple[tuple[int, ...], ...]", self.shape or ())

    @property
    def value_range(self) -> tuple[float, float]:
        """What pixels from 0 to 255 become, the widest channel's."""
        ends = [
            (pixel * self.scale - mean) / std
            for pixel in (0.0, 255.0)
            for mean in self.mean
            for std in self.std
        ]
        return min(ends), max(ends)


class Calibration(_Table):
    """``path`` is relative to the file. ``samples``: how many are taken, spread evenly."""

    path: str | None = None
    samples: Annotated[int, Field(ge=1, le=100_000)] = 100


class Evaluation(_Table):
    """``path`` is relative to the file.

    ``metrics``: of the user's own, for ``edgeq evaluate``: names of entry points in
    ``edgeq.metrics``, or ``package.module:function``.
    """

    path: str | None = None
    metrics: tuple[str, ...] = ()


class Project(_Table):
    """All of it; an absent file is the default."""

    input: Input = Input()
    calibration: Calibration = Calibration()
    evaluation: Evaluation = Evaluation()


def parse(text: str, origin: str) -> Project:
    """Read the file's text.

    Raises:
        ConfigError: with the file, the line and the key; the hint names the nearest right one.
    """
    return strict.parse(Project, text, origin)
