"""Going back to the release before, on a phone."""

import contextlib

from edgeq import wire
from edgeq.core.inventory import Device
from edgeq.core.profile import NamedProfile
from edgeq.deploy import Tools
from edgeq.native.depot import Depot
from edgeq.releases import only_model


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
            return depot.rollback(name or only_model(depot.releases(), device.name))
