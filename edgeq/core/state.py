"""How a device is just now, as the doctor's look found it. Input from outside, parsed once."""

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Mount(_Part):
    """A file system."""

    point: str
    device: str = ""
    type: str = ""
    options: tuple[str, ...] = ()


class Process(_Part):
    """One that was at work; ``cores`` is its share of the processor, 1.0 for a whole core."""

    pid: int
    name: str
    user: str | None = None
    cores: float


class Unreadable(_Part):
    """A sensor that is there, and refuses itself to the user."""

    what: str
    path: str
    why: str


class State(_Part):
    """The answer of ``edgeq/agent/checkup.py``. Unknown is None.

    Attributes:
        folder: ``~/.edgeq``, or the home where that is not there yet.
        write_error: Why no file can be written there (``EROFS``); empty: one can.
        write_how: How that was found out.
        map_error: Why no code there can be run (``EPERM``: noexec); empty: it can.
        libraries: What the loader says to libraries that runtimes need; empty: found.
        file_limit_mib: The largest file that this log-in may write.
        frequency_limit_share: How much of its highest frequency the processor may use.
        busy_cores: How many cores were at work over ``watched_s``.
        stolen_cores: How many the host of a virtual machine held back.
        processes_hidden: Those of others cannot be seen.
    """

    folder: str = ""
    mount: Mount | None = None
    disk_free_mib: float | None = None
    disk_size_mib: float | None = None
    inodes_free: int | None = None
    inodes_size: int | None = None
    write_error: str | None = None
    write_how: str = ""
    map_error: str | None = None
    map_how: str = ""
    file_limit_mib: float | None = None
    libraries: dict[str, str] = {}
    unreadable: tuple[Unreadable, ...] = ()
    rtc: bool | None = None
    clock_synchronized: bool | None = None
    power_mode: str | None = None
    cores_offline: int | None = None
    governors: tuple[str, ...] = ()
    frequency_driver: str | None = None
    frequency_limit_share: float | None = None
    swap_size_mib: float | None = None
    swap_free_mib: float | None = None
    swap_pages_per_s: float | None = None
    memory_pressure_percent: float | None = None
    watched_s: float | None = None
    busy_cores: float | None = None
    stolen_cores: float | None = None
    processes: tuple[Process, ...] = ()
    processes_hidden: bool = False
