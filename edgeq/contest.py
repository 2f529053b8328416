"""Candidates that hold the budget, measured on the device itself: the best of them there wins.

They take turns, forwards and backwards (A B C, C B A, …), each in a fresh process every time, so
that warming up, throttling and other work on the device fall on all of them alike.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from edgeq import wire
from edgeq.core import bundle as bundles
from edgeq.core import front, power, telemetry
from edgeq.core.front import Measured
from edgeq.core.raw import Raw
from edgeq.core.searched import CandidateSection, DeviceFigures, SearchSection
from edgeq.errors import ModelError, TrialError
from edgeq.package import ProvedBundle
from edgeq.places import Places
from edgeq.ports import OnProgress
from edgeq.prepare import PrepareJob, take
from edgeq.search.find import Rival
from edgeq.session import Session
from edgeq.stopwatch import Stopwatch
from edgeq.trial import Load

_ROUNDS = 4
_SECONDS = 0.5
_RUNS = 5
_WARMUP_MAX_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A candidate on the device; ``figures`` is None where ``failure`` says why."""

    rival: Rival
    figures: DeviceFigures | None
    failure: str = ""


def decide(
    session: Session,
    job: PrepareJob,
    proved: ProvedBundle,
    load: Load,
    places: Places,
    watch: Stopwatch,
    on_progress: OnProgress,
) -> ProvedBundle:
    """The bundle of the candidate that wins on the device.

    Raises:
        TrialError: none of them runs there.
        DeviceError, ConnectError: the device or the link failed, not the model.
    """
    searched = proved.searched
    if searched is None or not searched.rivals:
        return proved
    with watch.step("run"):
        inputs = proved.bundle.files[bundles.GOLDEN_INPUTS]
        entrants = measure(session, searched.rivals, inputs, load, on_progress)
    contenders = [_contender(entrant) for entrant in entrants if entrant.figures]
    place = front.winner([measured for _, measured in contenders])
    if place is None:
        reasons = "; ".join(f"{entrant.rival.name}: {entrant.failure}" for entrant in entrants)
        raise TrialError(f"no candidate runs on the device: {reasons}")
    winner, figures = contenders[place]
    leaders = front.front([measured for _, measured in contenders])
    told = _Told(
        winner=figures,
        entrants={entrant.rival.name: entrant for entrant in entrants},
        leaders=frozenset(contenders[leader][1].name for leader in leaders),
    )
    section = told.section(searched.section)
    again = replace(searched, converted=winner.converted, section=section)
    return take(job, again, places, watch, on_progress)


def measure(
    session: Session,
    rivals: Sequence[Rival],
    inputs: bytes,
    load: Load,
    on_progress: OnProgress,
) -> list[Entrant]:
    """Measure them in turns; one that crashes takes no further part."""
    digest = hashlib.sha256(inputs).hexdigest()
    source = f"scratch/{digest[:32]}.npz"
    session.put(source, inputs, digest)
    runs: list[list[Raw]] = [[] for _ in rivals]
    failures = [""] * len(rivals)
    for number in range(_ROUNDS):
        order = range(len(rivals)) if number % 2 == 0 else reversed(range(len(rivals)))
        for place in order:
            if failures[place]:
                continue
            rival = rivals[place]
            on_progress("measure candidates", number * len(rivals), _ROUNDS * len(rivals))
            try:
                runs[place].append(_run(session, rival, source, load))
            except (TrialError, ModelError) as error:
                failures[place] = error.message
    return [
        Entrant(rival=rival, figures=None if failure else _figures(raws), failure=failure)
        for rival, raws, failure in zip(rivals, runs, failures, strict=True)
    ]


def _run(session: Session, rival: Rival, inputs: str, load: Load) -> Raw:
    artifact = rival.converted.artifact
    path = f"scratch/{artifact.sha256[:32]}{artifact.path.suffix}"
    session.put(path, artifact.path, artifact.sha256)
    request = wire.Measure(
        model=path,
        inputs=inputs,
        runtime=load.runtime,
        processes=1,
        runs=_RUNS,
        seconds=_SECONDS,
        warmup_s=min(load.protocol.warmup_seconds, _WARMUP_MAX_S),
        warmup_max_s=min(load.protocol.warmup_max_seconds, _WARMUP_MAX_S),
        idle_s=0.0,
        sample_hz=load.sample_hz,
        timeout_s=load.protocol.timeout_seconds,
        cpus=load.protocol.cpus,
        pin_mhz=load.conditions.pin_mhz,
    )
    return session.measure(request).raw


def _figures(raws: Sequence[Raw]) -> DeviceFigures:
    """Medians over the rounds; a figure that a round lacks is not known."""
    p50s = [p50 for raw in raws if (p50 := telemetry.latency(raw).section.p50_ms) is not None]
    peaks = [telemetry.memory(raw).section.peak_rss_mib for raw in raws]
    meters = [power.power(raw).section for raw in raws]
    return DeviceFigures(
        rounds=len(raws),
        p50_ms=median(p50s),
        p50_spread_ms=max(p50s) - min(p50s),
        peak_rss_mib=_median(peaks),
        energy_mj=_median([meter.energy_mj if meter else None for meter in meters]),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known and len(known) == len(values) else None


def _contender(entrant: Entrant) -> tuple[Rival, Measured]:
    figures, quality = entrant.figures, entrant.rival.quality
    assert figures is not None  # noqa: S101  only those that ran are asked for
    worths = (quality.artifact_accuracy, quality.top1_agreement, quality.sqnr_db)
    worth = next((value for value in worths if value is not None), math.inf)
    return entrant.rival, Measured(
        name=entrant.rival.name,
        p50_ms=figures.p50_ms,
        spread_ms=figures.p50_spread_ms,
        worth=worth,
        size_bytes=entrant.rival.converted.artifact.size_bytes,
        peak_rss_mib=figures.peak_rss_mib,
        energy_mj=figures.energy_mj,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """The contest in the report. ``leaders``: names of those on the front."""

    winner: Measured
    entrants: Mapping[str, Entrant]
    leaders: frozenset[str]

    def section(self, before: SearchSection) -> SearchSection:
        candidates = tuple(self._candidate(one) for one in before.candidates)
        return before.model_copy(update={"chosen": self.winner.name, "candidates": candidates})

    def _candidate(self, one: CandidateSection) -> CandidateSection:
        entrant = self.entrants.get(one.name)
        if entrant is None:
            standing = "holds" if one.standing == "chosen" else one.standing
            return one.model_copy(update={"standing": standing})
        if entrant.figures is None:
            why = f"on the device: {entrant.failure}"
            return one.model_copy(update={"standing": "refused", "reason": why})
        won = one.name == self.winner.name
        update = {
            "standing": "chosen" if won else "holds",
            "reason": self._won(one) if won else self._lost(one, entrant.figures),
            "device": entrant.figures,
            "on_front": one.name in self.leaders,
        }
        return one.model_copy(update=update)

    def _won(self, one: CandidateSection) -> str:
        if one.recipe.precision == "float32":
            return "float is faster here: no quantized candidate beats it on this device"
        return "on the device the fastest, or as fast as that and cheaper"

    def _lost(self, one: CandidateSection, figures: DeviceFigures) -> str:
        times = figures.p50_ms / self.winner.p50_ms
        place = "on the front" if one.name in self.leaders else "another is better there"
        if times > 1:
            return f"{place}; it takes {times:.2f} times as long as {self.winner.name}"
        return f"{place}; {self.winner.name} is as fast and costs less"
