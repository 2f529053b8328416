"""The host's clock against the device's, by exchanges before and after a run."""

from dataclasses import dataclass

from edgeq.core.raw import Numbers

NS_PER_S = 1e9
# A host whose clock was set by more than this in between has no one offset.
MAX_STEP_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question and its answer: the device's clocks at about the middle of the host's wait.

    Attributes:
        host_s: The host's wall clock in the middle, since 1970.
        host_monotonic_s: The host's other clock at that moment, which is never set.
        device_ns: The device's monotonic clock.
        device_wall_s: Its wall clock.
        uncertainty_s: Half of the round trip.
    """

    host_s: float
    host_monotonic_s: float
    device_ns: float
    device_wall_s: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """From the host's wall clock to the device's monotonic one, drift included."""

    before: Exchange
    after: Exchange

    @property
    def offset_s(self) -> float:
        """The device's wall clock less the host's, before the run."""
        return self.before.device_wall_s - self.before.host_s

    @property
    def uncertainty_s(self) -> float:
        return max(self.before.uncertainty_s, self.after.uncertainty_s)

    @property
    def drift_ppm(self) -> float:
        """How much faster the device's clock runs than the host's."""
        return (self._rate / NS_PER_S - 1) * 1e6

    @property
    def host_step_s(self) -> float:
        """By how much the host's wall clock was set between the exchanges."""
        wall_s = self.after.host_s - self.before.host_s
        return wall_s - (self.after.host_monotonic_s - self.before.host_monotonic_s)

    def device_ns(self, host_s: Numbers) -> Numbers:
        return self.before.device_ns + (host_s - self.before.host_s) * self._rate

    @property
    def _rate(self) -> float:
        """Nanoseconds of the device's clock to a second of the host's."""
        seconds = self.after.host_s - self.before.host_s
        if seconds <= 0:
            return NS_PER_S
        return (self.after.device_ns - self.before.device_ns) / seconds
