"""A deploy up to the point where the device would be changed."""

import contextlib
import hashlib
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from edgeq import examination
from edgeq.archive import agent_archive
from edgeq.core import gates
from edgeq.core.report import ArtifactSection, Gate, QualitySection
from edgeq.deploy import DeployJob, Lines, Tools, survey
from edgeq.outcome import Found
from edgeq.ports import Link
from edgeq.stopwatch import Stopwatch


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sending(_Part):
    """One thing that would be sent; 0 bytes when the device has it."""

    what: str
    size_bytes: int
    send_bytes: int


class Rehearsal(_Part):
    """What a deploy would do; nothing on the device was changed to find out.

    Attributes:
        active: The release that is active now; None when there is none.
        release: The one that would become active.
        failures: A sentence for each gate that fails already.
    """

    schema_: str = Field(default="edgeq.rehearsal/1", alias="schema")
    device: str
    machine: str
    python: str
    runtime: str
    model: str
    active: str | None
    release: str
    sending: tuple[Sending, ...]
    artifact: ArtifactSection
    quality: QualitySection
    gates: tuple[Gate, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]


def rehearse(job: DeployJob, tools: Tools, lines: Lines) -> Rehearsal:
    """Examine the device, prepare everything, and say what would be sent and changed.

    Raises:
        EdgeqError: as ``deploy`` does, up to here.
    """
    with contextlib.closing(tools.transport.connect(job.device)) as link:
        found = survey(link, job, tools, Stopwatch(), lines)
        active = _active(link, found)
    proved = found.proved
    manifest = proved.bundle.manifest
    return Rehearsal(
        device=job.device.name,
        machine=examination.describe(found.facts),
        python=found.plan.python.path,
        runtime=str(found.plan.choice),
        model=manifest.name,
        active=active,
        release=proved.bundle.release,
        sending=_sending(found, active),
        artifact=proved.artifact,
        quality=proved.quality,
        gates=proved.gates,
        failures=gates.failures(proved.gates),
        warnings=(*proved.warnings, *_passing(job)),
    )


def _passing(job: DeployJob) -> Iterator[str]:
    """What is changed for the time of the measurement only."""
    if job.conditions.pin_mhz is not None:
        at = f"at {job.conditions.pin_mhz:g} MHz" if job.conditions.pin_mhz else "at the highest"
        yield f"--pin-frequency would hold the CPU's clock {at} while it measures, and set it back"


def _active(link: Link, found: Found) -> str | None:
    name = found.proved.bundle.manifest.name
    done = link.run(["readlink", f"{found.facts.root}/models/{name}/current"])
    return done.stdout.decode("utf-8", "replace").strip().rpartition("/")[2] or None


def _sending(found: Found, active: str | None) -> tuple[Sending, ...]:
    agent = agent_archive()
    agent_is_there = hashlib.sha256(agent).hexdigest() in found.facts.agents
    choice, bundle = found.plan.choice, found.proved.bundle
    package = choice.package
    release_bytes = sum(map(len, bundle.contents.values()))
    return (
        Sending(
            what="agent",
            size_bytes=len(agent),
            send_bytes=0 if agent_is_there else len(agent),
        ),
        Sending(
            what=f"runtime {choice}",
            size_bytes=found.runtimes.parcel(package).stat().st_size if package else 0,
            send_bytes=choice.send_bytes,
        ),
        Sending(
            what=f"release {bundle.release}",
            size_bytes=release_bytes,
            send_bytes=0 if active == bundle.release else release_bytes,
        ),
    )
