"""What a search found, in the report and in the manifest. Unknown is null."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeq.core.profile import Precision

Standing = Literal["chosen", "holds", "likely", "unproved", "fails", "refused", "skipped"]
"""``chosen`` · ``holds`` the budget, but another was preferred · ``likely``: it seems to, on too
few samples for a proof · ``unproved``: it may, but the samples leave too much doubt · ``fails``
it · ``refused`` by the quantizer or the runtime · ``skipped``: not tried, or not to the end."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RecipeSection(_Part):
    """How it was quantized."""

    precision: Precision
    weights: Literal["minmax", "octav"] = "minmax"
    equalize: bool = False
    correct_bias: bool = False
    keep_float: tuple[str, ...] = ()


class DeviceFigures(_Part):
    """Measured on the device itself. ``rounds``: of which the medians' median is given."""

    rounds: int
    p50_ms: float
    p50_spread_ms: float
    peak_rss_mib: float | None = None
    energy_mj: float | None = None


class CandidateSection(_Part):
    """One recipe and what it gave.

    Attributes:
        name: In words, such as ``int8 +CLE``.
        losses: Samples that only the float model gets right; ``gains``: only this one.
        drop_low: Bound of ``accuracy_drop`` that holds with the search's confidence, like the
            others: Tango's score interval for the drop, Wilson's for agreement.
        confidence: What was asked of this one: the search's, or more after other looks.
        drop_bound: What the budget is compared with: as ``drop_high``, but with this confidence,
            and gains make up for no more than as many losses.
        calibration_sqnr_db: On samples kept apart from those that judge; it orders candidates.
        host_p50_ms: On this machine; another one may rank differently.
        on_front: No other candidate measured on the device is better in all that counts.
        reason: Why it was chosen, or why it was not.
    """

    name: str
    recipe: RecipeSection
    standing: Standing
    reason: str
    sha256: str | None = None
    size_bytes: int | None = None
    artifact_accuracy: float | None = None
    accuracy_drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    confidence: float | None = None
    drop_bound: float | None = None
    losses: int | None = None
    gains: int | None = None
    top1_agreement: float | None = None
    agreement_low: float | None = None
    sqnr_db: float | None = None
    calibration_sqnr_db: float | None = None
    host_p50_ms: float | None = None
    device: DeviceFigures | None = None
    on_front: bool | None = None


class SearchSection(_Part):
    """A search for the best recipe within a budget.

    Attributes:
        max_drop: The budget; null where it does not apply, like the other two.
        confidence: Of each bound, one-sided, at the first look.
        samples: That judged; ``origin`` says which.
        float_accuracy: What the drops are reckoned from.
        chosen: Name of the candidate; null when none holds the budget.
        nearest: The one that comes closest, when none holds it.
        samples_needed: About how many would prove what was chosen on too few.
        stopped: Why the search ended before all were tried; null: it did not.
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    min_sqnr_db: float | None = None
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    samples: int
    origin: Literal["evaluation", "calibration"]
    float_accuracy: float | None = None
    chosen: str | None = None
    nearest: str | None = None
    samples_needed: int | None = None
    stopped: str | None = None
    candidates: tuple[CandidateSection, ...] = ()

    def without_device(self) -> "SearchSection":
        """The same, but for what a device measured."""
        bare = tuple(
            one.model_copy(update={"device": None, "on_front": None}) for one in self.candidates
        )
        return self.model_copy(update={"candidates": bare})
