"""Why a layer's error is what it is, and what to try: rules of thumb over its figures.

The thresholds are judgements. 6 dB is one bit; a range three times the 99.9th percentile costs
more than one bit for one value in a thousand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.core.layers import Error

FINE_DB = 40.0
"""Above it a layer's error needs no reason."""

_BIT_DB = 6.0
_CLIP_SHARE = 0.3
_OUTLIER = 3.0
_SPREAD = 16.0
_FEW_CHANNELS = 4
_DEAD_SHARE = 0.25
_UNUSED = 4.0
_MORE_DATA = "calibrate with data like that which it will meet, and more of it"
_WIDER = "--precision int16x8"
_EQUALIZE = "--equalize"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What is known of one layer.

    Attributes:
        input_db: Least SQNR of its inputs, rounded to their types; None: not known, or exact.
        own_db: SQNR with the float model's inputs; None: not known; infinite: equal.
        other_weights: Its weights have nothing to do with the float model's.
        limits: Least and largest value of the tensor's type; None: float.
        bits: Of the type.
        culprit: The operator before it that adds the most error, as people call it.
        fixed_range: Its scale is the kernel's own or its input's, not found by calibration.
        moves: Its operator puts values elsewhere without reckoning: it adds no error.
    """

    name: str
    error: Error
    own_db: float | None
    input_db: float | None
    weight_db: float | None
    limits: tuple[float, float] | None
    bits: int
    other_weights: bool = False
    culprit: str | None = None
    fixed_range: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``advice``: what to try, the best first, each by itself."""

    reason: str
    advice: tuple[str, ...]


_OTHER_MODEL = Finding(
    reason="other weights: this operator's are not the float model's",
    advice=("name the float model that the artifact was made from",),
)


def spread(error: Error) -> float | None:
    """The largest channel's peak by the median of all that are not dead; None: too few."""
    alive = error.peaks[error.peaks > 0]
    if len(alive) < _FEW_CHANNELS:
        return None
    return float(alive.max() / np.median(alive))


def rounding_db(layer: Layer) -> float | None:
    """SQNR that rounding its output alone would leave: steps of q have the noise q² / 12.

    None for a float tensor, one that is all 0, and one whose channels were equalized.
    """
    known = layer.error.mean_square > 0 and layer.error.factors is None
    if layer.limits is None or not known:
        return None
    low, high = layer.limits
    step = (high - low) / ((1 << layer.bits) - 1)
    return 10 * math.log10(12 * layer.error.mean_square / step**2)


def findings(layer: Layer) -> tuple[Finding, ...]:
    """The likely reasons: the error that comes in, then what it adds.

    None where it is small, or the operator only moves values: all of it comes from before.
    """
    small = layer.error.sqnr_db is None or layer.error.sqnr_db >= FINE_DB
    if small or layer.moves:
        return ()
    if layer.other_weights:
        return (_OTHER_MODEL,)
    own: tuple[Finding, ...] = ()
    if layer.own_db is None or layer.own_db < FINE_DB:
        own = (*_range(layer), *_channels(layer), *_inputs(layer))
        own = own or tuple(_weights(layer)) or tuple(_rounding(layer))
    return (*_from_before(layer), *own, *_dead(layer))


def _from_before(layer: Layer) -> Iterator[Finding]:
    total, own = layer.error.sqnr_db or 0.0, layer.own_db
    if own is not None and own - total >= _BIT_DB:
        alone = "there would be none" if math.isinf(own) else f"it would be {own:.1f} dB"
        yield Finding(
            reason=f"the error comes from before: with exact inputs {alone}",
            advice=(f"mend {layer.culprit or 'the layers before it'} first",),
        )


def _range(layer: Layer) -> Iterator[Finding]:
    error = layer.error
    top = max(abs(error.low), abs(error.high))
    if layer.limits is None:
        return
    low, high = layer.limits
    if (error.clip_noise_share or 0.0) >= _CLIP_SHARE and error.clipped_share:
        yield Finding(
            reason=f"saturated: {_share(error.clipped_share)} of the values lie beyond"
            f" {low:.3g} to {high:.3g}, as far as {error.low:.3g} and {error.high:.3g}",
            advice=(_MORE_DATA,),
        )
    elif error.p999 > 0 and top / error.p999 >= _OUTLIER:
        yield Finding(
            reason=f"range outliers: the largest value is {top / error.p999:.1f} times what"
            " 99.9 % stay below",
            advice=(_keep(layer.name), _WIDER),
        )
    used = error.high - error.low
    if error.factors is None and 0 < used * _UNUSED <= high - low:
        wider = f"{(high - low) / used:.1f} times the range of these values"
        if layer.fixed_range:
            yield Finding(reason=f"fixed range: {wider}", advice=(_keep(layer.name),))
        else:
            yield Finding(
                reason=f"unused range: it was calibrated for {wider}", advice=(_MORE_DATA,)
            )


def _channels(layer: Layer) -> Iterator[Finding]:
    error, apart = layer.error, spread(layer.error)
    if error.lost:
        yield Finding(
            reason=f"lost channels: {error.lost} of {len(error.peaks)} never change any more,"
            " their values are below one step",
            advice=(_EQUALIZE, _WIDER),
        )
    elif apart is not None and apart >= _SPREAD and error.factors is None:
        yield Finding(
            reason=f"badly scaled channels: the largest is {apart:.0f} times the median one",
            advice=(_EQUALIZE,),
        )


def _inputs(layer: Layer) -> Iterator[Finding]:
    given, own = layer.input_db, layer.own_db
    if given is not None and own is not None and given <= own + _BIT_DB / 2:
        yield Finding(
            reason=f"rounded inputs: the types they come in give {given:.1f} dB",
            advice=(_WIDER, _keep(layer.name)),
        )


def _weights(layer: Layer) -> Iterator[Finding]:
    weights, own, alone = layer.weight_db, layer.own_db, rounding_db(layer)
    if weights is None or own is None:
        return
    if weights <= own + _BIT_DB / 2 or alone is None or own <= alone - _BIT_DB / 2:
        yield Finding(
            reason=f"rounded weights: their SQNR is {weights:.1f} dB",
            advice=(_EQUALIZE, _keep(layer.name)),
        )


def _rounding(layer: Layer) -> Iterator[Finding]:
    alone = rounding_db(layer)
    if alone is not None:
        yield Finding(
            reason=f"rounding: {layer.bits} bits over this range give about {alone:.1f} dB",
            advice=(_WIDER, _keep(layer.name)),
        )


def _dead(layer: Layer) -> Iterator[Finding]:
    error = layer.error
    if len(error.peaks) >= _FEW_CHANNELS and error.dead >= _DEAD_SHARE * len(error.peaks):
        yield Finding(
            reason=f"dead channels: {error.dead} of {len(error.peaks)} are always 0 in the float"
            " model too",
            advice=("they cost time, not accuracy: prune them",),
        )


def _keep(name: str) -> str:
    """As a POSIX shell reads it; always in quotes, names hold ``;`` and ``/``."""
    quoted = name.replace("'", "'\"'\"'")
    return f"--precision mixed --keep-float '{quoted}'"


def _share(share: float) -> str:
    return f"{100 * share:.2g} %"
