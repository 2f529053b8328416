"""The measurement of each op's sensitivity, started from the host, with its journal."""

import contextlib
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from edgeq import cache, worker
from edgeq.convert import Gathered
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.places import Places
from edgeq.ports import OnProgress, Recipe
from edgeq.search import figures, sensitivity
from edgeq.search.clock import Clock

PROBE_SAMPLES = 32
_JOURNALS = "journals"
_JOURNALS_S = 30 * 24 * 3600
# What is found is still to be tried.
_SHARE = 0.5


def probe(
    gathered: Gathered,
    calibration: Samples,
    recipe: Recipe,
    clock: Clock,
    places: Places,
    on_progress: OnProgress,
) -> sensitivity.Sensitivity:
    """What keeping ops of an int8 ``recipe`` in float32 gains.

    Measured by SQNR on samples that do not judge: what is chosen by those that do is chosen by
    their luck. What an earlier search measured, even if it was broken off, is not measured again.

    Raises:
        ModelError: the pivot cannot be quantized so.
        TimeIsUpError: the search has no time left.
    """
    samples = figures.some(gathered.spare or calibration, PROBE_SAMPLES)
    plain = replace(recipe, input_dtype="float32", output_dtype="float32")
    parts = {
        **cache.versions(),
        "pivot": gathered.pivot.sha256,
        "recipe": asdict(plain),
        "calibration": calibration.sha256,
        "probe": samples.sha256,
    }
    journal = places.cache / _JOURNALS / f"{cache.key_of(parts)}.jsonl"
    _forget_old(journal.parent)
    log = places.log / f"search-{gathered.pivot.sha256[:12]}.log"
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        folders = (Path(folder, "calibration"), Path(folder, "probe"))
        for path, some in zip(folders, (calibration, samples), strict=True):
            path.mkdir()
            stored.write(some, path)
        request = sensitivity.SensitivityRequest(
            pivot=gathered.pivot,
            recipe=plain,
            calibration=folders[0],
            probe=folders[1],
            journal=journal,
            seconds=_SHARE * clock.left_s,
        )

        def work(limits: worker.Limits) -> sensitivity.Sensitivity:
            return worker.call(
                sensitivity.measure, request, log=log, limits=limits, on_progress=on_progress
            )

        return clock.within(work)


def _forget_old(folder: Path) -> None:
    """Journals that nobody has gone on with for long."""
    now_s = time.time()
    with contextlib.suppress(OSError):
        for journal in folder.glob("*.jsonl"):
            if now_s - journal.stat().st_mtime > _JOURNALS_S:
                journal.unlink()
