"""Every error a user may see.

::

    EdgeqError                      1
    ├── UsageError                  2   wrong words on the command line
    │   └── ConfigError             2   a profile, project file or inventory that is wrong
    ├── GateError                   3   accuracy, parity or a budget was not met
    │   └── TrialError              3   the model crashed, hung or ran out of memory on the device
    ├── ConnectError                4   the device cannot be reached
    │   ├── HostKeyError            4   it is not the machine that was pinned
    │   ├── AuthError               4   it refuses the log-in
    │   └── LinkLostError           4   the connection broke (may pass by itself)
    ├── RejectedError               5   the model or the data cannot be used
    │   ├── ModelError              5
    │   ├── DataError               5
    │   └── BundleError             5   a bundle is damaged
    ├── DeviceError                 1   the device answered, but cannot do it
    │   ├── PreflightError          1   it is not what its profile says, or lacks something
    │   │   └── NoPythonError       1   it has no Python that could look at it
    │   ├── BusyError               1   someone else is deploying to it
    │   ├── SpaceError              1   its disk is full
    │   └── AgentError              1   the agent failed or spoke nonsense
    ├── FetchError                  1   a runtime wheel could not be fetched
    ├── WorkerError                 1   a child process on the host crashed, hung, grew too large
    ├── HostError                   1   this machine: disk full, no permission
    ├── MeterError                  1   a power meter at this machine cannot be used
    └── StoppedError              130   Ctrl-C; 143 for a request to end
"""


class EdgeqError(Exception):
    """Something went wrong that the user can understand.

    Attributes:
        message: What failed, where and with which value; lower case, no full stop.
        hint: The mend, as a command or an edit; empty where there is none.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgeqError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class GateError(EdgeqError):
    exit_code = 3


class TrialError(GateError):
    pass


class ConnectError(EdgeqError):
    exit_code = 4


class HostKeyError(ConnectError):
    pass


class AuthError(ConnectError):
    pass


class LinkLostError(ConnectError):
    pass


class RejectedError(EdgeqError):
    exit_code = 5


class ModelError(RejectedError):
    pass


class DataError(RejectedError):
    pass


class BundleError(RejectedError):
    pass


class DeviceError(EdgeqError):
    pass


class PreflightError(DeviceError):
    pass


class NoPythonError(PreflightError):
    pass


class BusyError(DeviceError):
    pass


class SpaceError(DeviceError):
    pass


class AgentError(DeviceError):
    pass


class FetchError(EdgeqError):
    pass


class WorkerError(EdgeqError):
    pass


class HostError(EdgeqError):
    pass


class MeterError(EdgeqError):
    pass


class StoppedError(EdgeqError):
    """A signal asked for the end; shells expect 128 and its number as the exit code."""

    def __init__(self, number: int) -> None:
        super().__init__("stopped; nothing is half done, what was finished is kept for next time")
        self.exit_code = 128 + number
