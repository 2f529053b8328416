"""A deploy to a phone up to the point where it would be changed."""

import contextlib
import hashlib

from edgeq import examination
from edgeq.core import gates
from edgeq.deploy import DeployJob, Lines, Tools
from edgeq.native import phone, program
from edgeq.native.depot import Depot
from edgeq.prepare import prepare
from edgeq.rehearse import Rehearsal, Sending
from edgeq.stopwatch import Stopwatch


def rehearse(job: DeployJob, tools: Tools, lines: Lines) -> Rehearsal:
    """Examine the phone, prepare everything, and say what would be sent and changed.

    Raises:
        EdgeqError: as ``deploy`` does, up to here.
    """
    where = job.device.name
    program.require_possible(job)
    binary = program.find(job.device, job.profile, job.benchmark_model)
    with contextlib.closing(tools.transport.connect(job.device)) as link:
        facts = phone.examine(link, where)
        phone.check(job.profile.profile, facts, where)
        program.fits(binary, facts, where)
        depot = Depot(link, where)
        sending = _program(depot, binary, where)
        proved = prepare(job.prepare, tools.places, Stopwatch(), lines("model"))
        manifest = proved.bundle.manifest
        known = [one for one in depot.releases() if one.model == manifest.name]
    active = known[0].current or None if known else None
    is_there = bool(known) and proved.bundle.release in known[0].releases
    release_bytes = sum(map(len, proved.bundle.contents.values()))
    return Rehearsal(
        device=where,
        machine=examination.describe(facts),
        python="not needed",
        runtime=f"{program.NAME} ({binary.shown})",
        model=manifest.name,
        active=active,
        release=proved.bundle.release,
        sending=(
            sending,
            Sending(
                what=f"release {proved.bundle.release}",
                size_bytes=release_bytes,
                send_bytes=0 if is_there else release_bytes,
            ),
        ),
        artifact=proved.artifact,
        quality=proved.quality,
        gates=proved.gates,
        failures=gates.failures(proved.gates),
        warnings=proved.warnings,
    )


def _program(depot: Depot, binary: program.Program, where: str) -> Sending:
    if binary.data is None:
        program.there(depot, binary, where)
        return Sending(what=f"runtime {program.NAME}", size_bytes=0, send_bytes=0)
    size, place = len(binary.data), program.place(binary.data)
    folder, _, name = place.rpartition("/")
    digest = hashlib.sha256(binary.data).hexdigest()
    is_there = depot.sums(folder, [name]) == {name: digest}
    return Sending(
        what=f"runtime {program.NAME}", size_bytes=size, send_bytes=0 if is_there else size
    )
