"""The agent on this machine, for proving models: one implementation of inference everywhere."""

import contextlib
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeq import wire
from edgeq.archive import agent_archive
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.places import Places
from edgeq.ports import Array, Channel, Completed, Floats, Link, Predict
from edgeq.session import open_session, predictor
from edgeq.transports import local

# Host verification is bounded by the processor: LiteRT gains from a second thread at most.
_THREADS = 2
_FOLDER = "here"


@contextlib.contextmanager
def lazy_predictor(places: Places) -> Iterator[Predict]:
    """``ports.Predict`` on this machine; the agent starts with the first call, if one comes."""
    with contextlib.ExitStack() as stack:
        made: list[Predict] = []

        def predict(model: Path, inputs: Sequence[Array]) -> list[Floats]:
            if not made:
                made.append(stack.enter_context(_predictor(places)))
            return made[0](model, inputs)

        yield predict


@contextlib.contextmanager
def _predictor(places: Places) -> Iterator[Predict]:
    agent = agent_archive()
    root = places.cache / _FOLDER
    known = hashlib.sha256(agent).hexdigest()
    facts = Facts(
        system="Linux",
        architecture="",
        kernel="",
        home=str(Path.home()),
        root=str(root),
        agents=(known,) if (root / "agents" / f"{known}.pyz").is_file() else (),
        wall_time_s=time.time(),
    )
    device = Device(name="host", profile="host", transport="local")
    with contextlib.closing(local.make().connect(device)) as link:
        rooted = _RootedLink(link, root)
        with open_session(
            rooted, facts, python=sys.executable, agent=agent, where="this machine"
        ) as session:
            yield predictor(session, wire.Runtime(kind="litert", threads=_THREADS))


class _RootedLink:
    """A link whose agents keep their files in a folder of the cache."""

    def __init__(self, link: Link, root: Path) -> None:
        self._link = link
        self._root = root

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        return self._link.run(argv, stdin=stdin, timeout_s=timeout_s)

    def open(self, argv: Sequence[str]) -> Channel:
        return self._link.open(["env", f"EDGEQ_ROOT={self._root}", *argv])

    def close(self) -> None:
        self._link.close()
