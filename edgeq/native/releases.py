"""Going back to the release before, on a phone."""

import contextlib

from edgeq import wire
from edgeq.core.inventory import Device
from edgeq.core.profile import NamedProfile
from edgeq.deploy import Tools
from edgeq.errors import DeviceError, UsageError
from edgeq.native.depot import Depot


def rollback(
    device: Device,
    profile: NamedProfile,  # noqa: ARG001 - as for other devices
    tools: Tools,
    name: str | None,
) -> wire.Releases:
    """Make the release before the active one active again; needs no benchmark_model.

    Raises:
        UsageError: several models are there and none was named.
        DeviceError: there is nothing to go back to.
    """
    with contextlib.closing(tools.transport.connect(device)) as link:
        depot = Depot(link, device.name)
        with depot.held(tools.holder):
            return depot.rollback(name or _only(depot, device.name))


def _only(depot: Depot, where: str) -> str:
    models = [one.model for one in depot.releases()]
    if not models:
        raise DeviceError(f"no release is installed on {where}", hint="edgeq deploy installs one")
    if len(models) > 1:
        raise UsageError(
            f"{where} has releases of {', '.join(models)}", hint="name one of them: --name MODEL"
        )
    return models[0]
