"""``--meter spl:FILE``: what PTDaemon logs, as in MLPerf's ``spl.txt``."""

from pathlib import Path

from edgeq.core.meterlog import read_spl
from edgeq.logfile import LogFile


def make(argument: str) -> LogFile:
    """The meter whose log is the file ``argument``.

    Raises:
        MeterError: it is not there.
    """
    return LogFile(Path(argument).expanduser(), "spl", read_spl)
