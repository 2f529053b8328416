"""The host's half of a deploy: from a model or a bundle to a bundle that is proved here."""

from dataclasses import dataclass

from edgeq import here
from edgeq.convert import ConvertJob, convert
from edgeq.core.bundle import Bundle
from edgeq.core.gates import Limits
from edgeq.core.profile import Budgets
from edgeq.errors import BundleError
from edgeq.package import Labels, ProvedBundle, pack_bundle, pack_model
from edgeq.places import Places
from edgeq.ports import OnProgress
from edgeq.stopwatch import Stopwatch
from edgeq.verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareJob:
    """``source``: a model to convert, or a bundle that was made before."""

    source: ConvertJob | Bundle
    labels: Labels
    budgets: Budgets
    limits: Limits


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
    converted = convert(job.source, places=places, on_progress=on_progress)
    watch.seconds |= {"load": converted.load_s, "quantize": converted.quantize_s}
    with watch.step("verify"), here.lazy_predictor(places) as predict:
        verified = verify(converted, predict, places=places, on_progress=on_progress)
    settings = job.source.project.input
    return pack_model(converted, verified, job.labels, settings, job.budgets, job.limits)


def _check(bundle: Bundle, job: PrepareJob) -> ProvedBundle:
    """A bundle goes where it was made for."""
    if bundle.manifest.profile != job.labels.profile:
        raise BundleError(
            f"the bundle was made for {bundle.manifest.profile}, not for {job.labels.profile}",
            hint="convert the model for this device: edgeq convert MODEL --device NAME -o FILE",
        )
    return pack_bundle(bundle, job.limits)
