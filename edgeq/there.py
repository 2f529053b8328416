"""The agent on a device, for predictions only: nothing is installed as a release there."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeq import examination, provision, wheels
from edgeq.archive import agent_archive, examine_script
from edgeq.core.inventory import Device
from edgeq.core.profile import Format, NamedProfile, Profile
from edgeq.places import Places
from edgeq.ports import OnProgress, Predict, Transport
from edgeq.runtimes import RuntimeStore
from edgeq.session import open_session, predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A device and the way to it.

    Attributes:
        known: All profiles that are known, to say which would fit.
        holder: Who uses it, for others who find the device busy.
    """

    device: Device
    profile: NamedProfile
    transport: Transport
    known: Mapping[str, NamedProfile]
    holder: str


@contextlib.contextmanager
def open_predictor(
    station: Station, format_: Format, places: Places, on_progress: OnProgress
) -> Iterator[Predict]:
    """``ports.Predict`` on a device, which gets agent and runtime first and is locked meanwhile.

    Raises:
        ConnectError: it cannot be reached.
        PreflightError: it is not what its profile says, or no runtime can be had for it.
        BusyError: someone else has it.
    """
    device, profile, where = station.device, station.profile.profile, station.device.name
    with contextlib.closing(station.transport.connect(device)) as link:
        on_progress("examine", 0, 0)
        script = examine_script(quick=True, only_this=device.transport == "local")
        facts = examination.examine(link, script, examination.python_hint(device, profile), where)
        examination.check(profile, facts, where, _same_way(station))
        store = RuntimeStore(places.cache / "wheels", wheels.fetch)
        on_progress("choose runtime", 0, 0)
        python = device.python or profile.access.python
        plan = provision.plan(profile, facts, store, where, python, format_=format_)
        agent = agent_archive()
        with open_session(
            link, facts, python=plan.python.path, agent=agent, where=where
        ) as session:
            session.lock(station.holder)
            ready = provision.ensure(session, plan, profile, facts, store, on_progress)
            on_progress("ready", 1, 1)
            yield predictor(session, ready.runtime, timeout_s=profile.run.timeout_seconds)


def _same_way(station: Station) -> Mapping[str, Profile]:
    return {
        name: one.profile
        for name, one in station.known.items()
        if one.profile.access.transport == station.device.transport
    }
