"""A release tried out on its device: put there, its golden set replayed, measured."""

from dataclasses import dataclass

import numpy as np

from edgeq import metering, wire
from edgeq.core import bundle as bundles
from edgeq.core import parity
from edgeq.core.bundle import Bundle
from edgeq.core.parity import Parity
from edgeq.core.profile import RunProtocol
from edgeq.errors import EdgeqError, ModelError, TrialError
from edgeq.package import ProvedBundle
from edgeq.ports import OnProgress, PowerMeter
from edgeq.session import Measurement, Session
from edgeq.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is to be so while it is measured; None: as it is.

    Attributes:
        cool_to_c: Each process waits until the device is as cool as that.
        cool_limit_s: So long in all.
        pin_mhz: The CPU's clock, 0 for the highest that is allowed.
    """

    cool_to_c: float | None = None
    cool_limit_s: float = 300.0
    pin_mhz: float | None = None


UNCHANGED = Conditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How to run the model."""

    runtime: wire.Runtime
    protocol: RunProtocol
    sample_hz: float
    conditions: Conditions = UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """What the release did; None where it did not come to that, and ``failure`` says why."""

    bytes_sent: int
    parity: Parity | None = None
    measurement: Measurement | None = None
    failure: EdgeqError | None = None


def folder(bundle: Bundle) -> str:
    """A release's folder on a device, relative to the agent's root."""
    return f"models/{bundle.manifest.name}/releases/{bundle.release}"


def try_out(
    session: Session,
    proved: ProvedBundle,
    load: Load,
    watch: Stopwatch,
    on_progress: OnProgress,
    meter: PowerMeter | None = None,
) -> Trial:
    """Install without switching, compare with the host, measure, with the host's meter if any.

    A model that crashes, hangs or gives other answers is a finding, not an error.

    Raises:
        DeviceError, ConnectError: the device or the link failed, not the model.
    """
    bundle = proved.bundle
    protocol = load.protocol
    with watch.step("push"):
        # One replays the golden set, the others measure.
        session.start_ahead(load.runtime, 1 + protocol.processes, protocol.cpus)
        sent_bytes = session.install(
            bundle.manifest.name, bundle.release, bundle.contents, on_progress
        )
    compared: Parity | None = None
    try:
        with watch.step("run"):
            compared = _replay(session, proved, load, on_progress)
            if compared.max_abs_diff is None or compared.max_abs_diff > compared.limit:
                return Trial(bytes_sent=sent_bytes, parity=compared)
            measurement = metering.measure(session, _request(bundle, load), meter, on_progress)
    except (TrialError, ModelError) as error:
        failure = TrialError(error.message, hint=error.hint)
        return Trial(bytes_sent=sent_bytes, parity=compared, failure=failure)
    return Trial(bytes_sent=sent_bytes, parity=compared, measurement=measurement)


def _replay(session: Session, proved: ProvedBundle, load: Load, on_progress: OnProgress) -> Parity:
    on_progress("replay golden set", 0, 0)
    where = folder(proved.bundle)
    request = wire.Predict(
        model=f"{where}/{proved.bundle.manifest.model_file}",
        inputs=f"{where}/{bundles.GOLDEN_INPUTS}",
        outputs="",
        runtime=load.runtime,
        timeout_s=load.protocol.timeout_seconds,
    )
    outputs = session.replay(request, len(proved.expected[0]))
    answers = [output.astype(np.float32) for output in outputs]
    return parity.compare(proved.expected, answers, proved.bundle.manifest.precision)


def _request(bundle: Bundle, load: Load) -> wire.Measure:
    where, protocol = folder(bundle), load.protocol
    return wire.Measure(
        model=f"{where}/{bundle.manifest.model_file}",
        inputs=f"{where}/{bundles.GOLDEN_INPUTS}",
        runtime=load.runtime,
        processes=protocol.processes,
        runs=protocol.runs,
        seconds=protocol.seconds,
        warmup_s=protocol.warmup_seconds,
        warmup_max_s=protocol.warmup_max_seconds,
        idle_s=protocol.idle_seconds,
        sample_hz=load.sample_hz,
        timeout_s=protocol.timeout_seconds,
        cpus=protocol.cpus,
        cool_to_c=load.conditions.cool_to_c,
        cool_limit_s=load.conditions.cool_limit_s,
        pin_mhz=load.conditions.pin_mhz,
    )
