"""The agent on this machine, for proving models: one implementation of inference everywhere."""

import contextlib
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeq import sending, wire
from edgeq.archive import agent_archive
from edgeq.core import telemetry
from edgeq.core.inventory import Device
from edgeq.core.machine import Facts
from edgeq.places import Places
from edgeq.ports import Array, Channel, Completed, Floats, Link, Predict
from edgeq.session import Session, open_session, predictor
from edgeq.transports import local

# Host verification is bounded by the processor: a runtime gains from a second thread at most.
_THREADS = 2
_FOLDER = "here"
_RUNTIMES = {".tflite": "litert", ".onnx": "onnxruntime"}
_LATENCY_RUNS, _LATENCY_S = 20, 0.3


class Host:
    """This machine as a device; its agent starts with the first call, if one comes.

    Close it; ``lazy_host`` does.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stack = contextlib.ExitStack()
        self._session: Session | None = None

    def predict(self, model: Path, inputs: Sequence[Array]) -> list[Floats]:
        """``ports.Predict``."""
        runtime = wire.Runtime(kind=_RUNTIMES[model.suffix], threads=_THREADS)
        return predictor(self._started(), runtime)(model, inputs)

    def p50_ms(self, model: Path, threads: int) -> float | None:
        """Median latency of a short run on noise; None where it shows none.

        Raises:
            TrialError: the model crashed.
            ModelError: the runtime refuses it.
        """
        session = self._started()
        size_bytes = sending.size(model)
        digest = sending.prefix_sha256(model, size_bytes)
        path = f"scratch/{digest[:32]}{model.suffix}"
        session.put(path, model, digest)
        request = wire.Measure(
            model=path,
            inputs="",
            runtime=wire.Runtime(kind=_RUNTIMES[model.suffix], threads=threads),
            processes=1,
            runs=_LATENCY_RUNS,
            seconds=_LATENCY_S,
            warmup_s=_LATENCY_S / 3,
            warmup_max_s=_LATENCY_S,
            idle_s=0.0,
            sample_hz=0.0,
        )
        return telemetry.latency(session.measure(request).raw).section.p50_ms

    def close(self) -> None:
        self._stack.close()

    def _started(self) -> Session:
        if self._session is None:
            self._session = self._stack.enter_context(_agent(self._places))
        return self._session


@contextlib.contextmanager
def lazy_host(places: Places) -> Iterator[Host]:
    """This machine, for as long as it is needed."""
    with contextlib.closing(Host(places)) as host:
        yield host


@contextlib.contextmanager
def lazy_predictor(places: Places) -> Iterator[Predict]:
    """``ports.Predict`` on this machine; the agent starts with the first call, if one comes."""
    with lazy_host(places) as host:
        yield host.predict


@contextlib.contextmanager
def _agent(places: Places) -> Iterator[Session]:
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
            yield session


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
