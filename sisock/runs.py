"""A run of an operation: its state, its progress and its updates."""

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol

from pydantic import BaseModel

from sisock.errors import BadRequest, TooLarge
from sisock.jsontext import as_encodable, as_json, dumped, recorded
from sisock.metrics import Counters
from sisock.procedure import Caller, Operation
from sisock.run_context import Cancelled, RunState
from sisock.serializable import serializable_copy
from sisock.times import Clock

ENDED: frozenset[RunState] = frozenset(("done", "failed", "cancelled"))
"""States of a run that has ended."""
DEADLINE = "deadline"
"""How the reason of a run begins whose deadline has passed."""

ANSWER_SIZE = 2_000_000
"""Bytes of the changes of a run in an answer, so that a message carries them and the run."""

# Changes of a run that are kept for clients which missed some, and the bytes of their updates.
_MOST_CHANGES, _MOST_BYTES = 1000, 16_000_000
_LARGEST_UPDATE = 1_000_000
# Characters of the message of a progress, and bytes of a change beside its update and its message, about.
_LONGEST_MESSAGE, _CHANGE_SIZE = 1000, 300


@dataclass(slots=True)
class Change:
    """A change of a run.

    Attributes
    ----------
    seq : int
        Number of the change, from 1 on, without gaps.
    state : str
    progress : float or None
    message : str or None
    update : any
        None where it is a change of state or of progress.
    size : int
        Bytes of `update`, about; 0 where there is none.
    """

    seq: int
    state: RunState
    progress: float | None
    message: str | None
    update: Any = None
    size: int = field(default=0, repr=False)

    @property
    def bytes(self) -> int:
        """Bytes of all of it in a message, about."""
        return self.size + len(self.message or "") + _CHANGE_SIZE


class Run:
    """A run of an operation; its methods may be used from any thread.

    Attributes
    ----------
    id : str
        Unique; ids of later runs are greater.
    operation : Operation
    arguments : pydantic.BaseModel
        Validated.
    caller : Caller
    state : {"queued", "running", "cancelling", "done", "failed", "cancelled"}
    progress : float or None
        Fraction from 0 to 1, as last reported.
    message : str or None
        Text of the last progress.
    update : any
        The last update.
    result : any
        Plain values; None until `state` is `done`.
    error : str or None
        Why it failed, or by whom it was cancelled.
    queued, started, ended : float or None
        UNIX seconds.
    cancelled : Cancelled
    """

    def __init__(
        self, number: str, operation: Operation, arguments: BaseModel, caller: Caller, clock: Clock, counters: Counters
    ) -> None:
        self.id, self.operation, self.arguments, self.caller = number, operation, arguments, caller
        self.state: RunState = "queued"
        self.progress: float | None = None
        self.message: str | None = None
        self.update: Any = None
        self.result: Any = None
        self.error: str | None = None
        self.exception: BaseException | None = None
        self.queued, self.started, self.ended = clock.now(), None, None
        self.cancelled = Cancelled(clock)
        self.kill: Callable[[], Callable[[], object] | None] = lambda: None
        """Returns the function that ends its code by force; None where that is not possible."""
        self.deadline: Callable[[], None] | None = None
        """Revokes its deadline."""
        self.reason: str | None = None
        """The reason of its cancellation, from the moment at which it is to end."""
        self.is_forced = False
        """Whether its code is to be ended by force."""
        self.bytes = 0
        """Bytes of the result, about."""
        # As JSON first, which every message can carry.
        self._recorded_arguments = recorded(json.loads(as_json(dumped(arguments))))
        self._counters, self._lock = counters, threading.Lock()
        self._changes: deque[Change] = deque()
        self._seq = self._taken = self._bytes = 0
        self._when_changed: tuple[Callable[[Run], object], ...] = ()
        self._add(Change(0, self.state, None, None))

    queued: float
    started: float | None
    ended: float | None

    @property
    def seq(self) -> int:
        """Number of the newest change."""
        return self._seq

    @property
    def size(self) -> int:
        """Bytes of its result and of its changes that are kept, about."""
        with self._lock:
            return self.bytes + sum(each.bytes for each in self._changes)

    @property
    def is_overdue(self) -> bool:
        """Whether it is to end because its deadline has passed."""
        return self.reason is not None and self.reason.startswith(DEADLINE)

    @property
    def is_ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state in ENDED

    def kill_process(self) -> bool:
        """Kill its process, and return whether it has one."""
        kill = self.kill()
        if not self.operation.isolated or kill is None:
            return False
        kill()
        return True

    def listen(self, listener: "Callable[[Run], object]") -> None:
        """Have a function called after each change, in the thread that makes it."""
        with self._lock:
            self._when_changed = (*self._when_changed, listener)

    def unlisten(self, listener: "Callable[[Run], object]") -> None:
        """Call a listener no more."""
        with self._lock:
            self._when_changed = tuple(other for other in self._when_changed if other != listener)

    def enter(self, state: RunState) -> None:
        """Change the state."""
        with self._lock:
            self.state = state
            self._add(Change(0, state, self.progress, self.message))
        self._notify()

    def report_progress(self, fraction: float | None, message: str | None = None) -> None:
        """Report progress; while a progress has not been published, a newer one replaces it.

        Raises
        ------
        BadRequest
            If `fraction` is not within 0 and 1, or the run has ended.
        """
        fraction, message = checked_progress(fraction, message)
        with self._lock:
            self._check_running()
            self.progress, self.message = fraction, message
            newest = self._changes[-1] if self._changes else None
            if newest is not None and newest.seq > self._taken and not newest.size and newest.state == self.state:
                newest.progress, newest.message = fraction, message
                self._counters.add("coalesced_progress")
            else:
                self._add(Change(0, self.state, fraction, message))
        self._notify()

    def report_update(self, value: Any) -> None:
        """Report an update: any value that can be serialized.

        Raises
        ------
        TooLarge
            If it has over a megabyte.
        BadRequest
            If no message can carry it, or the run has ended.
        """
        value, size = checked_update(value)
        with self._lock:
            self._check_running()
            self.update = value
            self._add(Change(0, self.state, self.progress, self.message, value, size))
        self._notify()

    def changes(self, after: int = 0) -> list[Change]:
        """Return the changes after a number, as far as they are kept; progress among them is replaced no more."""
        with self._lock:
            self._taken = self._seq
            skipped = self._seq - len(self._changes)
            return list(self._changes)[max(0, after - skipped) :]

    def wire_changes(self, after: int = 0, most_bytes: float = math.inf) -> list[dict[str, Any]]:
        """Return the changes after a number as they are published: the first of them, one at least, up to a size."""
        return [self.as_published(each) for each in _up_to(self.changes(after), most_bytes)]

    def as_published(self, change: Change) -> dict[str, Any]:
        """Return a change as it is published."""
        return {
            "id": self.id,
            "seq": change.seq,
            "state": change.state,
            "progress": change.progress,
            "message": change.message,
            "update": change.update,
        }

    def described(self) -> dict[str, Any]:
        """Return the run as plain values, with secrets redacted."""
        return {
            "id": self.id,
            "seq": self._seq,
            "name": self.operation.name,
            "arguments": self._recorded_arguments,
            "caller": self.caller.as_dict(),
            "state": self.state,
            "progress": self.progress,
            "message": self.message,
            "update": self.update,
            "result": self.result,
            "error": self.error,
            "queued": self.queued,
            "started": self.started,
            "ended": self.ended,
        }

    def record(self) -> dict[str, Any]:
        """Return the run as it is kept: large values are truncated and marked."""
        described = self.described()
        return {**described, "update": recorded(described["update"]), "result": recorded(described["result"])}

    def _check_running(self) -> None:
        if self.is_ended:
            self._counters.add("updates_after_end")
            raise BadRequest(f"run {self.id} of {self.operation.name} has ended; it takes no more updates")

    def _add(self, change: Change) -> None:
        self._seq += 1
        change.seq = self._seq
        self._changes.append(change)
        self._bytes += change.size
        while len(self._changes) > _MOST_CHANGES or self._bytes > _MOST_BYTES:
            dropped = self._changes.popleft()
            self._bytes -= dropped.size
            self._counters.add("dropped_updates", bool(dropped.size))

    def _notify(self) -> None:
        for listener in self._when_changed:
            listener(self)


def _up_to(changes: Sequence[Change], most_bytes: float) -> Iterator[Change]:
    """Yield changes, one at least, until they have so many bytes."""
    size = 0
    for change in changes:
        size += change.bytes
        if size > most_bytes and change is not changes[0]:
            return
        yield change


def checked_progress(fraction: Any, message: Any) -> tuple[float | None, str | None]:
    """Return a progress as it is sent: a fraction from 0 to 1 or None, and a text without its end if it is long.

    Raises
    ------
    BadRequest
        If the fraction is another value, or the message is not a text.
    """
    if fraction is not None and not (isinstance(fraction, Real) and 0.0 <= float(fraction) <= 1.0):
        raise BadRequest(f"progress is {fraction!r}; give a fraction from 0 to 1, or None where it is not known")
    if message is not None and not isinstance(message, str):
        raise BadRequest(f"the message of a progress is {type(message).__name__}; give a text")
    if message is not None:
        message = as_encodable(message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…")
    return None if fraction is None else float(fraction), message


def checked_update(value: Any) -> tuple[Any, int]:
    """Return an update as it is sent, and its bytes.

    Raises
    ------
    TooLarge
        If it has over a megabyte.
    BadRequest
        If no message can carry it.
    """
    try:
        plain, size = serializable_copy(value)
    except BadRequest as error:
        raise BadRequest(f"an update is not valid: {error.message}") from error
    if size > _LARGEST_UPDATE:
        raise TooLarge(
            f"an update has {size} bytes, and at most {_LARGEST_UPDATE} are sent; report less, and emit samples "
            "for what is to be kept"
        )
    return plain, size


class RunRecords(Protocol):
    """Where the records of runs are kept, for longer than the node lives."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record; the newest one of an id counts."""
        ...

    def newest(self, most: int) -> Iterator[Mapping[str, Any]]:
        """Yield the newest records of the `most` newest ids, in the order of the ids.

        Those of older runs that are active are yielded as well, where they were recorded as recently.
        """
        ...
