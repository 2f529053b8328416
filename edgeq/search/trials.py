"""Recipes tried in an order that spends time where it pays, until one is good enough.

int8 comes first, with and without equalization, clipped weights and bias correction; each is kept
only when it measures better. If none of them holds the budget, the ops that int8 harms most stay
in float32 (``mixed``), and then come the recipes that are larger or slower. Every artifact and
every figure is a cache entry, so a search that was broken off goes on where it was.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq import cache
from edgeq.cache import Cache
from edgeq.convert import Gathered, quantize
from edgeq.core.gates import Limits
from edgeq.core.model import Artifact
from edgeq.core.profile import Precision
from edgeq.core.search import verdicts
from edgeq.core.standard import Judged, Standard
from edgeq.errors import DataError, GateError, ModelError, WorkerError
from edgeq.here import Host
from edgeq.places import Places
from edgeq.ports import OnProgress, Recipe
from edgeq.search import figures
from edgeq.search.clock import Clock, TimeIsUpError
from edgeq.search.figures import Bench, Figures
from edgeq.search.probing import probe

DEFAULT_SECONDS = 120.0
DEFAULT_CONFIDENCE = 0.95
# Half of the noise gone, in dB: what a mixed model has to gain to be worth its size.
_WORTH_DB = 3.0
_LATER: tuple[Precision, ...] = ("int8-dynamic", "fp16", "int16x8")
_FLOAT: tuple[Precision, ...] = ("float32",)  # what a device may run faster
_NO_CALIBRATION = "it needs calibration data: --calibration PATH"
_TIME_IS_UP = "not tried: the time was up"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWish:
    """What the user wants of a search.

    Attributes:
        confidence: Of each bound, one-sided.
        seconds: It ends within them; loading the model does not count.
        thorough: Try every kind, even when an earlier one is good enough.
    """

    limits: Limits
    confidence: float = DEFAULT_CONFIDENCE
    seconds: float = DEFAULT_SECONDS
    thorough: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A candidate.

    Attributes:
        artifact: None where ``refusal`` says why, like ``figures``; empty: it was not needed.
        skipped: It was not tried to the end; else the quantizer or the runtime refused it.
    """

    name: str
    recipe: Recipe
    artifact: Artifact | None = None
    figures: Figures | None = None
    host_p50_ms: float | None = None
    refusal: str = ""
    skipped: bool = False

    @property
    def judged(self) -> Judged | None:
        """What the choice needs of it; None when it was not judged."""
        if self.artifact is None or self.figures is None:
            return None
        apart = self.figures.apart_sqnr_db
        return Judged(
            name=self.name,
            precision=self.recipe.precision,
            size_bytes=self.artifact.size_bytes,
            quality=self.figures.quality,
            counts=self.figures.counts,
            apart_sqnr_db=math.inf if apart is None else apart,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latency:
    p50_ms: float | None


class Trials:
    """Makes candidates and judges them, until the best of them is known or the time is up."""

    def __init__(
        self,
        gathered: Gathered,
        base: Recipe,
        wish: SearchWish,
        host: Host,
        threads: int,
        places: Places,
        on_progress: OnProgress,
    ) -> None:
        self.tried: list[Tried] = []
        self.thorough = wish.thorough
        self.standard = Standard(limits=wish.limits, confidence=wish.confidence)
        self._gathered = gathered
        self._base = base
        self._host = host
        self._threads = threads
        self._wish = wish
        self._places = places
        self._on_progress = on_progress
        self._later = (*_LATER, *_FLOAT) if wish.thorough else _LATER
        self._clock = Clock(wish.seconds)
        self.data = figures.data(gathered)
        if wish.limits.max_drop is not None and self.data.judging.labels is None:
            raise DataError(
                "--max-drop is about accuracy, which needs labelled samples",
                hint="give some with --evaluate PATH, or use --min-agreement or --min-sqnr",
            )
        self._bench = Bench(gathered, self.data, host.predict, self._clock)

    def run(self) -> str:
        """Try; why it ended early, empty if it did not."""
        try:
            best = self._whole_numbers()
            if best is not None and self._wanting():
                self._mixed(best)
            for precision in self._later:
                if self._wanting() or self._wish.thorough:
                    self._try(precision, self._of(precision))
                else:
                    self._skip(precision, self._of(precision), "")
        except TimeIsUpError:
            names = {one.name for one in self.tried}
            for precision in self._later:
                if precision not in names:
                    self._skip(precision, self._of(precision), _TIME_IS_UP)
            return f"the {self._wish.seconds:g} s of --search-seconds were up"
        return ""

    def _whole_numbers(self) -> Tried | None:
        """int8, and what makes it better; the best of them."""
        plain = replace(self._base, precision="int8", keep_float=())
        if self._gathered.calibration is None:
            self._skip("int8", plain, _NO_CALIBRATION)
            self._skip("mixed", replace(plain, precision="mixed"), _NO_CALIBRATION)
            return None
        best = self._try("int8", plain)
        changes: tuple[tuple[str, Callable[[Recipe], Recipe]], ...] = (
            ("+CLE", lambda recipe: replace(recipe, equalize=True)),
            ("+OCTAV", lambda recipe: replace(recipe, weights="octav")),
            ("+bias", lambda recipe: replace(recipe, correct_bias=True)),
        )
        for word, change in changes:
            changed = change(best.recipe)
            if changed != best.recipe:
                other = self._try(f"{best.name} {word}", changed)
                best = max(best, other, key=_quality)
        return best if best.judged else None

    def _mixed(self, best: Tried) -> None:
        """The most sensitive ops in float32: as few as halve the noise, else as many as help."""
        calibration = self._gathered.calibration
        if calibration is None:
            return
        found = probe(
            self._gathered, calibration, best.recipe, self._clock, self._places, self._on_progress
        )
        whole = -math.inf if found.whole is None else found.whole.quality
        helpful = [step for step in found.growing if step.quality >= whole + _WORTH_DB]
        recipe = replace(best.recipe, precision="mixed")
        suffix = best.name.removeprefix("int8")
        if not helpful:
            why = "no half of its ops in float32 would halve the noise"
            if not found.growing:
                why = "no op can be kept in float32 by itself"
            self._skip(f"mixed{suffix}", recipe, why)
        steps = dict.fromkeys((*helpful[:1], *sorted(helpful, key=lambda s: -s.quality)[:1]))
        for step in steps:
            if self._wanting():
                count = len(step.keep_float)
                name = f"mixed{suffix}, {count} of {found.ops} ops in float32"
                self._try(name, replace(recipe, keep_float=step.keep_float))

    def _of(self, precision: Precision) -> Recipe:
        return replace(
            self._base,
            precision=precision,
            input_dtype="float32",
            output_dtype="float32",
            keep_float=(),
            equalize=False,
            correct_bias=False,
        )

    def _wanting(self) -> bool:
        """Whether nothing yet holds the budget."""
        judged = [one.judged for one in self.tried if one.judged]
        return not any(verdict.enough for verdict in verdicts(judged, self.standard))

    def _skip(self, name: str, recipe: Recipe, why: str) -> None:
        self.tried.append(Tried(name=name, recipe=recipe, refusal=why, skipped=True))

    def _try(self, name: str, recipe: Recipe) -> Tried:
        self._on_progress(f"try {name}", 0, 0)
        try:
            made = self._candidate(name, recipe)
        except (ModelError, GateError, WorkerError) as error:
            made = Tried(name=name, recipe=recipe, refusal=error.message)
        except TimeIsUpError:
            self._skip(name, recipe, _TIME_IS_UP)
            raise
        self.tried.append(made)
        return made

    def _candidate(self, name: str, recipe: Recipe) -> Tried:
        artifact = self._clock.within(
            lambda limits: quantize(
                self._gathered,
                recipe,
                places=self._places,
                on_progress=_silent,
                limits=limits,
            )[0]
        )
        for one in self.tried:
            if one.artifact and one.artifact.sha256 == artifact.sha256:
                why = f"it changes nothing: the same file as {one.name}"
                return Tried(name=name, recipe=recipe, refusal=why, skipped=True)
        return Tried(
            name=name,
            recipe=recipe,
            artifact=artifact,
            figures=self._figures(artifact),
            host_p50_ms=self._p50_ms(artifact),
        )

    def _figures(self, artifact: Artifact) -> Figures:
        def make(folder: Path) -> None:
            cache.write(self._bench.figures(artifact.path), folder)

        parts = {**self._bench.key, "artifact": artifact.sha256}
        entry = Cache(self._places.cache).entry("judged", parts, make)
        return cache.read(Figures, entry.folder)

    def _p50_ms(self, artifact: Artifact) -> float | None:
        """On this machine, by as many threads as the profile takes; measured once."""
        if self._clock.left_s <= 0:
            return None

        def make(folder: Path) -> None:
            cache.write(_Latency(p50_ms=self._host.p50_ms(artifact.path, self._threads)), folder)

        parts = {**cache.versions(), "artifact": artifact.sha256, "threads": self._threads}
        entry = Cache(self._places.cache).entry("host-latency", parts, make)
        return cache.read(_Latency, entry.folder).p50_ms


def _quality(one: Tried) -> float:
    return one.judged.apart_sqnr_db if one.judged else -math.inf


def _silent(_phase: str, _done: int, _total: int) -> None:
    """What goes on inside a trial is not shown: the trial is."""
