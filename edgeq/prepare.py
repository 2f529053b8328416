"""The host's half of a deploy: from a model or a bundle to a bundle that is proved here."""

from dataclasses import dataclass

from edgeq import here
from edgeq.convert import Converted, ConvertJob, convert
from edgeq.core.bundle import Bundle
from edgeq.core.gates import Limits
from edgeq.core.profile import Budgets, Format
from edgeq.core.project import Input
from edgeq.errors import BundleError
from edgeq.package import Labels, ProvedBundle, pack_bundle, pack_model
from edgeq.places import Places
from edgeq.ports import OnProgress, Predict
from edgeq.search.find import Searched, search
from edgeq.search.trials import SearchWish
from edgeq.stopwatch import Stopwatch
from edgeq.verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareJob:
    """What the host does.

    Attributes:
        source: A model to convert, or a bundle that was made before.
        search: Look for the best precision of a model; None: the source says which.
    """

    source: ConvertJob | Bundle
    labels: Labels
    budgets: Budgets
    limits: Limits
    search: SearchWish | None = None

    @property
    def format(self) -> Format:
        """What the artifact will be, so that the device's runtime can be chosen meanwhile."""
        if isinstance(self.source, Bundle):
            return self.source.manifest.format
        return self.source.format or self.source.profile.conversion.format


def prepare(
    job: PrepareJob, places: Places, watch: Stopwatch, on_progress: OnProgress
) -> ProvedBundle:
    """Convert, compare with the float model, and pack.

    Raises:
        RejectedError: the model, its data or the bundle cannot be used.
        WorkerError: a worker crashed or went beyond its limits.
    """
    if isinstance(job.source, Bundle):
        return _check(job.source, job)
    with here.lazy_host(places) as host:
        if job.search is None:
            found: Converted | Searched = convert(
                job.source, places=places, on_progress=on_progress
            )
        else:
            found = search(job.source, job.search, host, places=places, on_progress=on_progress)
        proved = _prove(job, found, host.predict, places, watch, on_progress)
    converted = _converted(found)
    watch.seconds |= {"load": converted.load_s, "quantize": converted.quantize_s}
    return proved


def take(
    job: PrepareJob, searched: Searched, places: Places, watch: Stopwatch, on_progress: OnProgress
) -> ProvedBundle:
    """Compare a candidate of a search with the float model, and pack it."""
    with here.lazy_host(places) as host:
        return _prove(job, searched, host.predict, places, watch, on_progress)


def _prove(
    job: PrepareJob,
    found: Converted | Searched,
    predict: Predict,
    places: Places,
    watch: Stopwatch,
    on_progress: OnProgress,
) -> ProvedBundle:
    converted = _converted(found)
    with watch.step("verify"):
        verified = verify(converted, predict, places=places, on_progress=on_progress)
    settings = Input() if isinstance(job.source, Bundle) else job.source.project.input
    searched = found if isinstance(found, Searched) else None
    return pack_model(converted, verified, job.labels, settings, job.budgets, job.limits, searched)


def _converted(found: Converted | Searched) -> Converted:
    return found.converted if isinstance(found, Searched) else found


def _check(bundle: Bundle, job: PrepareJob) -> ProvedBundle:
    """A bundle goes where it was made for."""
    if bundle.manifest.profile != job.labels.profile:
        raise BundleError(
            f"the bundle was made for {bundle.manifest.profile}, not for {job.labels.profile}",
            hint="convert the model for this device: edgeq convert MODEL --device NAME -o FILE",
        )
    return pack_bundle(bundle, job.limits)
