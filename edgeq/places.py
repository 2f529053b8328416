"""Where edgeq keeps its files on the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folders of one user; none needs to exist yet.

    Attributes:
        config: The inventory of devices.
        data: The store of runs.
        cache: Pivots, artifacts, quality figures, wheels; may be deleted at any time.
        log: Output of child processes.
    """

    config: Path
    data: Path
    cache: Path
    log: Path


def find(environ: Mapping[str, str]) -> Places:
    """``EDGEQ_HOME`` holds everything when it is set; else the platform's own folders."""
    if home := environ.get("EDGEQ_HOME"):
        root = Path(home).expanduser().absolute()
        return Places(
            config=root / "config", data=root / "data", cache=root / "cache", log=root / "log"
        )
    from platformdirs import PlatformDirs

    dirs = PlatformDirs("edgeq", appauthor=False)
    return Places(
        config=Path(dirs.user_config_dir),
        data=Path(dirs.user_data_dir),
        cache=Path(dirs.user_cache_dir),
        log=Path(dirs.user_log_dir),
    )
