"""What is installed on a device, and going back."""

import contextlib
from collections.abc import Sequence

from edgeq import examination, wire
from edgeq.archive import agent_archive, examine_script
from edgeq.core.inventory import Device
from edgeq.core.profile import NamedProfile
from edgeq.deploy import Tools
from edgeq.errors import DeviceError, UsageError
from edgeq.provision import agent_python
from edgeq.session import open_session


def rollback(
    device: Device, profile: NamedProfile, tools: Tools, name: str | None
) -> wire.Releases:
    """Make the release before the active one active again; needs no runtime.

    Raises:
        UsageError: several models are there and none was named.
        DeviceError: there is nothing to go back to.
    """
    with contextlib.closing(tools.transport.connect(device)) as link:
        hint = examination.python_hint(device, profile.profile)
        facts = examination.examine(link, examine_script(quick=True), hint, device.name)
        wanted = device.python or profile.profile.access.python
        python = agent_python(profile.profile, facts, device.name, wanted)
        with open_session(
            link, facts, python=python, agent=agent_archive(), where=device.name
        ) as session:
            session.lock(tools.holder)
            return session.rollback(name or only_model(session.releases(), device.name))


def only_model(installed: Sequence[wire.Releases], where: str) -> str:
    """The one model that a device has.

    Raises:
        DeviceError: it has none.
        UsageError: it has several.
    """
    models = [one.model for one in installed]
    if not models:
        raise DeviceError(f"no release is installed on {where}", hint="edgeq deploy installs one")
    if len(models) > 1:
        raise UsageError(
            f"{where} has releases of {', '.join(models)}", hint="name one of them: --name MODEL"
        )
    return models[0]
