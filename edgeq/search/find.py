"""The search from a model to the candidate that is taken, and what is told of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeq.cache import Cache
from edgeq.convert import Converted, ConvertJob, converted, gather, recipe
from edgeq.core.model import Artifact
from edgeq.core.profile import Precision
from edgeq.core.quality import Quality
from edgeq.core.report import Gate
from edgeq.core.search import Choice, choose, rank, verdicts
from edgeq.core.searched import CandidateSection, RecipeSection, SearchSection, Standing
from edgeq.core.standard import Judged, Standard
from edgeq.errors import EdgeqError, GateError, ModelError
from edgeq.here import Host
from edgeq.places import Places
from edgeq.ports import OnProgress
from edgeq.search.trials import SearchWish, Trials, Tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A candidate that holds the budget, or float32, which a device may run faster."""

    name: str
    converted: Converted
    quality: Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What was found.

    Attributes:
        rivals: One of each kind that holds the budget, to be measured on a device.
        converted: The chosen candidate, or the nearest where none holds the budget.
        section: For the report.
        gates: Those that a search adds.
        warnings: Plain sentences.
    """

    converted: Converted
    section: SearchSection
    gates: tuple[Gate, ...]
    warnings: tuple[str, ...]
    rivals: tuple[Rival, ...] = ()


def search(
    job: ConvertJob,
    wish: SearchWish,
    host: Host,
    *,
    places: Places,
    on_progress: OnProgress,
) -> Searched:
    """Find the first recipe in the order of preference that holds the budget.

    Raises:
        DataError: there are no samples to judge by, or no labels for a budget of accuracy.
        ModelError: the model cannot be loaded, or none of the recipes can quantize it.
        GateError: the time was up before any candidate was judged.
    """
    started = time.monotonic()
    gathered = gather(job, places=places, on_progress=on_progress)
    loaded = time.monotonic()
    threads = job.profile.runtime.threads
    trials = Trials(gathered, recipe(job), wish, host, threads, places, on_progress)
    stopped = trials.run()
    Cache(places.cache).prune()
    told = _Told(trials, stopped)
    seconds = (loaded - started, time.monotonic() - loaded)
    return Searched(
        converted=converted(gathered, told.taken, seconds),
        rivals=tuple(
            Rival(
                name=one.name,
                converted=converted(gathered, one.artifact, seconds),
                quality=one.judged.quality,
            )
            for one in told.rivals
        ),
        section=told.section(),
        gates=told.gates(),
        warnings=told.warnings(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A candidate that was judged."""

    name: str
    artifact: Artifact
    judged: Judged


class _Told:
    """The choice among what was tried, in words and figures.

    Raises:
        ModelError, GateError: nothing could be judged.
    """

    def __init__(self, trials: Trials, stopped: str) -> None:
        self._trials = trials
        self._standard: Standard = trials.standard
        self._stopped = stopped
        self._scored = [
            _Scored(name=one.name, artifact=one.artifact, judged=one.judged)
            for one in trials.tried
            if one.artifact and one.judged
        ]
        judged = [one.judged for one in self._scored]
        self._verdicts = dict(
            zip((one.name for one in self._scored), verdicts(judged, self._standard), strict=True)
        )
        self._choice: Choice = choose(judged, self._standard)
        if self._choice.nearest is None:
            raise _nothing(trials.tried, stopped)
        self._best = self._scored[self._choice.nearest]
        self._verdict = self._verdicts[self._best.name]
        # with the confidence that was asked of the candidate that was taken
        self._strict = replace(self._standard, looks=self._verdict.looks)

    @property
    def taken(self) -> Artifact:
        return self._best.artifact

    @property
    def rivals(self) -> list[_Scored]:
        """The first of each kind that holds the budget."""
        if self._choice.chosen is None or not self._trials.thorough:
            return []
        ranked = [self._scored[i] for i in rank([one.judged for one in self._scored])]
        found: dict[Precision, _Scored] = {}
        for one in ranked:
            outcome = self._verdicts[one.name].outcome
            if outcome in ("holds", "likely") or one.judged.precision == "float32":
                found.setdefault(one.judged.precision, one)
        return list(found.values())

    def section(self) -> SearchSection:
        applied = {gate.name: gate.limit for gate in self._standard.gates(self._quality)}
        if "accuracy_drop" in applied and self._standard.limits.min_agreement is None:
            applied.pop("top1_agreement", None)  # it is only there to stop a ruined model
        held = self._choice.chosen is not None
        return SearchSection(
            max_drop=applied.get("accuracy_drop"),
            min_agreement=applied.get("top1_agreement"),
            min_sqnr_db=applied.get("sqnr_db"),
            confidence=self._standard.confidence,
            samples=self._quality.samples,
            origin="evaluation" if self._trials.data.origin == "evaluation" else "calibration",
            float_accuracy=self._quality.float_accuracy,
            chosen=self._best.name if held else None,
            nearest=None if held else self._best.name,
            samples_needed=None if self._choice.proved else self._needed,
            stopped=self._stopped or None,
            candidates=tuple(self._candidate(one) for one in self._trials.tried),
        )

    def gates(self) -> tuple[Gate, ...]:
        """One that fails where the candidate passes all others, but by luck it may be."""
        ordinary = self._standard.gates(self._quality)
        if self._choice.chosen is not None or not all(gate.passed for gate in ordinary):
            return ()
        return self._strict.doubts(self._best.judged)

    def warnings(self) -> tuple[str, ...]:
        found = []
        if self._stopped:
            found.append(f"the search ended early: {self._stopped}")
        if self._choice.chosen is None:
            found.append(
                f"no recipe is known to hold the budget; the nearest is {self._best.name}:"
                f" {self._verdict.reason}"
            )
        elif not self._choice.proved:
            found.append(
                f"{self._quality.samples} samples are too few to prove the budget:"
                f" {self._best.name} seems to hold it, but {self._verdict.reason};"
                f" {self._proof}"
            )
        return tuple(found)

    @property
    def _proof(self) -> str:
        if self._needed is None:
            return "no number of samples can prove it"
        return f"a proof takes about {self._needed}"

    @property
    def _quality(self) -> Quality:
        return self._best.judged.quality

    @property
    def _needed(self) -> int | None:
        return self._strict.samples_needed(self._best.judged)

    def _candidate(self, one: Tried) -> CandidateSection:
        recipe = RecipeSection(
            precision=one.recipe.precision,
            weights=one.recipe.weights,
            equalize=one.recipe.equalize,
            correct_bias=one.recipe.correct_bias,
            keep_float=one.recipe.keep_float,
        )
        if one.judged is None or one.artifact is None:
            standing: Standing = "skipped" if one.skipped else "refused"
            reason = one.refusal or self._not_needed
            return CandidateSection(name=one.name, recipe=recipe, standing=standing, reason=reason)
        standing, reason = self._standing(one.judged)
        quality, counts = one.judged.quality, one.judged.counts
        verdict = self._verdicts[one.name]
        drop = self._standard.drop_bounds(counts)
        strict = replace(self._standard, looks=verdict.looks)
        agreement = self._standard.agreement_bounds(quality)
        return CandidateSection(
            name=one.name,
            recipe=recipe,
            standing=standing,
            reason=reason,
            sha256=one.artifact.sha256,
            size_bytes=one.artifact.size_bytes,
            artifact_accuracy=quality.artifact_accuracy,
            accuracy_drop=quality.accuracy_drop,
            drop_low=drop.low if drop else None,
            drop_high=drop.high if drop else None,
            confidence=strict.sure,
            drop_bound=strict.drop_bound(counts),
            losses=counts.losses if counts else None,
            gains=counts.gains if counts else None,
            top1_agreement=quality.top1_agreement,
            agreement_low=agreement.low if agreement else None,
            sqnr_db=quality.sqnr_db,
            host_p50_ms=one.host_p50_ms,
            calibration_sqnr_db=one.figures.apart_sqnr_db if one.figures else None,
        )

    @property
    def _not_needed(self) -> str:
        return f"not tried: {self._best.name} is good enough and comes before it"

    def _standing(self, judged: Judged) -> tuple[Standing, str]:
        verdict = self._verdicts[judged.name]
        if judged.name != self._best.name or self._choice.chosen is None:
            if verdict.outcome in ("holds", "likely") and self._choice.chosen is not None:
                return verdict.outcome, f"{verdict.reason}; {self._best.name} comes before it"
            return verdict.outcome, verdict.reason
        return "chosen", verdict.reason


def _nothing(tried: Sequence[Tried], stopped: str) -> EdgeqError:
    if stopped:
        return GateError(
            "the search's time was up before any candidate was judged",
            hint="give it more: --search-seconds",
        )
    reasons = "; ".join(f"{one.name}: {one.refusal}" for one in tried if one.refusal)
    return ModelError(f"no recipe can quantize the model: {reasons}")
