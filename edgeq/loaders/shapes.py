"""Open axes of a source's inputs, closed: the batch is 1, others come from edgeq.toml."""

from collections.abc import Sequence

from edgeq.errors import ModelError
from edgeq.ports import LoadOptions

_IMAGE_RANK = 4
_CHANNELS = (1, 3)


def pin(name: str, shape: Sequence[int | None], options: LoadOptions) -> tuple[int, ...]:
    """The shape of input ``name`` with batch 1 and nothing open (None or -1).

    Raises:
        ModelError: an axis other than the batch is open and edgeq.toml does not say its length.
    """
    if not shape:
        return ()
    sides = [1, *(None if side is None or side < 0 else int(side) for side in shape[1:])]
    if len(options.shapes) == 1:
        return _given(name, sides, options.shapes[0])
    places = _image_sides(sides)
    if options.image_size and places:
        for place, side in zip(places, options.image_size, strict=True):
            sides[place] = side if sides[place] is None else sides[place]
    closed = tuple(side for side in sides if side is not None)
    if len(closed) < len(sides):
        shown = ", ".join("?" if side is None else str(side) for side in sides)
        raise ModelError(
            f"input {name} has the open shape ({shown})",
            hint="write its height and width into edgeq.toml beside the model: "
            "[input] size = [224, 224]"
            if places
            else "save it with a fixed shape, or write it into edgeq.toml beside the model: "
            f"[input] shape = [{shown}], with a number for each ?",
        )
    return closed


def _given(name: str, sides: Sequence[int | None], given: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that edgeq.toml says, where the model agrees with it."""
    fits = len(given) == len(sides) and all(
        side in (None, said) for side, said in zip(sides, given, strict=True)
    )
    if not fits:
        shown = ", ".join("?" if side is None else str(side) for side in sides)
        raise ModelError(
            f"edgeq.toml says [input] shape = {list(given)}, but input {name} takes ({shown})",
            hint="leave it out, or write what the model takes, with a batch of 1",
        )
    return given


def _image_sides(sides: Sequence[int | None]) -> tuple[int, int] | None:
    """Where height and width stand, if this is an image."""
    if len(sides) != _IMAGE_RANK:
        return None
    if sides[3] in _CHANNELS:
        return 1, 2
    return (2, 3) if sides[1] in _CHANNELS else None
