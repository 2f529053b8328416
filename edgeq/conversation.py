"""One talk with an agent over a channel: requests, replies and payloads, each with a time limit."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from edgeq import endings, wire
from edgeq.errors import (
    AgentError,
    BusyError,
    DeviceError,
    LinkLostError,
    ModelError,
    SpaceError,
    TrialError,
)
from edgeq.ports import Channel, OnProgress

ReplyT = TypeVar("ReplyT")

HELLO_S = 60.0
SILENCE_S = 60.0
HEARTBEAT_S = 5.0
_SHOWN_CHARACTERS = 400
_SHOWN_HINT = 4000
_TRIAL_WORDS = {
    "crash": ("crashed", "another --precision or --format may do without what crashes"),
    "hang": ("hung", "if it is only slow there: a larger timeout_seconds in the profile's [run]"),
    "memory": ("ran out of memory", "a smaller model, or end what else takes memory there"),
}
_KILLED_HINT = (
    "start again, nothing was switched; if it happens again, look for what kills programs there:"
    " a watchdog, Android's limits"
)


def silent(phase: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


class Conversation:
    """Speaks the host's half. After an error of the link or the agent it is over.

    Args:
        channel: The started agent's.
        where: The device, as the user calls it.
    """

    def __init__(self, channel: Channel, where: str) -> None:
        self._channel = channel
        self._where = where
        self._decoder = wire.Decoder()
        self._events: deque[wire.Message | bytes] = deque()
        self._over = False
        self._beat_s = time.monotonic()

    def greet(self, limit_s: float = HELLO_S) -> wire.Hello:
        """Wait for the agent's first words; whatever a login shell prints before is skipped.

        Raises:
            AgentError: it did not start; the message has the end of its error output.
            LinkLostError: the connection broke.
        """
        hello = self.reply(wire.Hello, silence_s=limit_s)
        if hello.protocol != wire.PROTOCOL:
            self.fail(f"it speaks protocol {hello.protocol}, not {wire.PROTOCOL}")
        if not hello.root.startswith("/"):
            self.fail(f"its folder {hello.root!r} is not absolute")
        return hello

    def ask(
        self,
        request: wire.Message,
        expected: type[ReplyT],
        *,
        silence_s: float = SILENCE_S,
        on_progress: OnProgress = silent,
    ) -> ReplyT:
        """Send a request and wait for its reply; ``silence_s`` is between two signs of life.

        Raises:
            DeviceError, TrialError, ModelError: what the agent said it failed with.
            AgentError: it ended, or spoke nonsense.
            LinkLostError: the connection broke, or nothing came in time.
        """
        self.send(wire.encode(request))
        return self.reply(expected, silence_s=silence_s, on_progress=on_progress)

    def reply(
        self,
        expected: type[ReplyT],
        *,
        silence_s: float = SILENCE_S,
        on_progress: OnProgress = silent,
    ) -> ReplyT:
        """The reply to what was sent; raises as ``ask`` does."""
        # Whatever interrupts the wait, a signal too, leaves a reply under way that nobody expects.
        self._over = True
        while True:
            event = self._next(silence_s)
            match event:
                case wire.Progress():
                    on_progress(event.phase[:40], event.done, event.total)
                case wire.Failed():
                    self._over = False
                    raise self._failure(event)
                case _ if isinstance(event, expected):
                    self._over = False
                    return event
                case bytes():
                    self.fail("it sent data that nobody asked for")
                case _:
                    self.fail(
                        f"it answered {type(event).__name__} where {expected.__name__} was due"
                    )

    def payload(
        self, size_bytes: int, sink: Callable[[bytes], object], *, silence_s: float = SILENCE_S
    ) -> None:
        """Hand all of a message's payload to ``sink``; raises as ``ask`` does."""
        left = size_bytes
        self._over = True
        while left:
            event = self._next(silence_s)
            if not isinstance(event, bytes):
                self.fail(f"it sent {type(event).__name__} in the midst of data")
            left -= len(event)
            sink(event)
        self._over = False

    def send(self, *pieces: bytes | memoryview) -> None:
        """Send bytes; raises as ``ask`` does."""
        self.send_all(pieces)

    def send_all(self, pieces: Iterable[bytes | memoryview]) -> None:
        """The same, piece by piece; an error on the way to a piece ends the talk too."""
        if self._over:
            raise LinkLostError(f"the talk with {self._where} is over after an earlier error")
        self._over = True
        try:
            for piece in pieces:
                self._channel.send(piece)
        except BrokenPipeError:
            self._ended()
        self._over = False

    def close(self) -> None:
        """Say goodbye if that is still possible, and wait for the agent's end."""
        if not self._over:
            with contextlib.suppress(BrokenPipeError, LinkLostError):  # gone is what was wanted
                self._channel.send(wire.encode(wire.Bye()))
        self._over = True
        self._channel.close()

    def fail(self, what: str) -> NoReturn:
        """End the talk: what the agent said cannot be.

        Raises:
            AgentError: always.
        """
        self._over = True
        raise AgentError(
            f"the agent on {self._where} cannot be understood: {what}",
            hint="start again; if it happens again, delete ~/.edgeq/agents on the device",
        )

    def _next(self, silence_s: float) -> wire.Message | bytes:
        deadline = time.monotonic() + silence_s
        while not self._events:
            data = self._wait(deadline - time.monotonic())
            if data is None:
                raise LinkLostError(
                    f"{self._where} has said nothing for {silence_s:g} s",
                    hint="is it frozen or its disk full of work? look at it, then start again:"
                    " nothing on it was switched",
                )
            if not data:
                self._ended()
            try:
                self._events.extend(self._decoder.feed(data))
            except (wire.WireError, RecursionError) as error:
                self.fail(str(error))
        return self._events.popleft()

    def _wait(self, left_s: float) -> bytes | None:
        """The next bytes, None when the time is up; meanwhile the agent hears that we are here."""
        while True:
            now_s = time.monotonic()
            if now_s - self._beat_s >= HEARTBEAT_S:  # also while it tells of progress
                self._beat_s = now_s
                with contextlib.suppress(BrokenPipeError):  # its output may hold its last words
                    self._channel.send(wire.HEARTBEAT)
            try:
                return self._channel.receive(min(max(0.0, left_s), HEARTBEAT_S))
            except TimeoutError:
                left_s -= HEARTBEAT_S
                if left_s <= 0:
                    return None

    def _ended(self) -> NoReturn:
        """The agent's output ended: perhaps its last words say why."""
        for event in self._events:
            if isinstance(event, wire.Failed):
                raise self._failure(event)
        done = self._channel.close()
        words = done.stderr or self._decoder.skipped
        tail = _last_lines(words.decode("utf-8", "replace"))
        raise endings.explain(self._where, done.status, tail)

    def _failure(self, failed: wire.Failed) -> Exception:
        where = self._where
        said = _shorten(failed.message)
        detail = _last_lines(failed.detail)
        more = f" ({detail})" if detail and detail not in said else ""
        match failed.kind:
            case "busy":
                return BusyError(
                    f"{where} is busy: {said}", hint="wait until that is done, then start again"
                )
            case "space":
                return SpaceError(
                    f"the disk of {where} is full: {said}",
                    hint="make room, then start again; what is active there has not changed",
                )
            case "crash" | "hang" | "memory":
                words, hint = _TRIAL_WORDS[failed.kind]
                return TrialError(f"the model {words} on {where}: {said}{more}", hint=hint)
            case "model":
                return ModelError(f"{where} cannot run the model: {said}{more}")
            case "hash" | "missing" | "io" | "runtime" | "killed" | "wish":
                mends = {"killed": _KILLED_HINT, "wish": failed.detail[:_SHOWN_HINT]}
                more = "" if failed.kind == "wish" else more
                return DeviceError(f"{where}: {said}{more}", hint=mends.get(failed.kind, ""))
            case _:
                return AgentError(f"the agent on {where} failed: {said}{more}")


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _shorten(" | ".join(lines[-3:]))


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else "…" + text[1 - _SHOWN_CHARACTERS :]
