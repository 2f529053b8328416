"""``--meter csv:FILE``: any logger's table; see ``core.meterlog`` for the columns."""

from pathlib import Path

from edgeq.core.meterlog import read_csv
from edgeq.logfile import LogFile


def make(argument: str) -> LogFile:
    """The meter whose log is the file ``argument``.

    Raises:
        MeterError: it is not there.
    """
    return LogFile(Path(argument).expanduser(), "csv", read_csv)
