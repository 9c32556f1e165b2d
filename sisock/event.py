"""Events of a node: what happened, when, to what; kept in the table ``events``, and passed on in batches."""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, get_args

from sisock.errors import BadRequest
from sisock.jsontext import Encoded, as_encodable, as_json, as_text, truncated
from sisock.metrics import Counters
from sisock.outage import LimitedLog, OutageChange
from sisock.tables import ColumnType, Tables
from sisock.times import EARLIEST, FARTHEST_S, Clock, resolve
from sisock.worker import Worker

log = logging.getLogger(__name__)

Severity = Literal["debug", "info", "warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the least to the worst."""
COLUMNS: Mapping[str, ColumnType] = {
    "time": "time", "kind": "text", "subject": "text", "text": "text", "severity": "text", "data": "json",
}  # fmt: skip

_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}
# They are logged by the `OutageLog` that reports them.
_LOGGED = ("outage", "recovered")
_MOST_WAITING, _MOST_BYTES_WAITING = 20_000, 32 << 20
_LONGEST, _LONGEST_NAME, _SHOWN = 64 << 10, 200, 1000
# The values of an event have at most so many bytes together.
_LARGEST = 256 << 10
# Bytes of the events of an answer, about, as they are in memory.
_ANSWER_SIZE = 4 << 20
# Seconds between events that report lost ones, and for which repeated events are not logged.
_LOSS_S, _QUIET_S = 1.0, 60.0
# Seconds for which events gather before they are kept and passed on together.
_GATHER_S = 0.01


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    time : float
        UNIX seconds.
    kind : str
        Such as ``command``, ``run``, ``alarm``, ``outage``, ``recovered``, ``offer``, ``node``, ``clock``, ``damage``,
        ``loss``; a node type may have others.
    subject : str
        What it happened to: the name of a command, of an alarm, of a device.
    text : str
        One sentence for people.
    severity : {"debug", "info", "warning", "error", "critical"}
    data : dict
        Values of JSON.
    seq : int
        Its number, of this node; the next event has the next one, or a greater one.
    size : int
        Bytes of its texts and values, about.
    """

    time: float
    kind: str
    subject: str
    text: str
    severity: Severity
    data: dict[str, Any] = field(default_factory=dict)
    seq: int = 0
    size: int = field(default=0, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, as it goes over the wire."""
        return {
            "time": self.time,
            "seq": self.seq,
            "kind": self.kind,
            "subject": self.subject,
            "text": self.text,
            "severity": self.severity,
            "data": self.data,
        }


class EventPage(NamedTuple):
    """Some of the events of a node.

    Attributes
    ----------
    events : list of Event
        By `seq`.
    cursor : int
        To be given as `after` to read what follows.
    oldest : int
        The `seq` of the oldest event that is kept.
    """

    events: list[Event]
    cursor: int
    oldest: int


class Report(Protocol):
    """Reports an event, as `Events.report` does; never raises, and never waits."""

    def __call__(self, kind: str, subject: str, text: str, severity: Severity = "info", **data: Any) -> None:
        """Report it."""
        ...


class Reporter(Protocol):
    """Something that reports events: `Events`, and the work of a node."""

    @property
    def report(self) -> Report:
        """Reports an event."""
        ...


Listener = Callable[[Sequence[Event]], object]
_Waiting = tuple[float, str, str, str, Severity, Encoded]


class Events:
    """The events of a node; may be used from any thread.

    Parameters
    ----------
    tables : Tables
        Of which ``events`` keeps them.
    clock : Clock

    Attributes
    ----------
    counters : Counters
        ``reported`` events; ``dropped`` ones, for which there was no room while they waited; ``truncated`` ones, whose
        values were too large; ``failed`` ones, whose values could not be read; ``failed_listeners``, how often a
        listener raised an error.
    """

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._clock = clock
        self._table = tables.open("events", COLUMNS)
        self.counters = Counters("reported", "dropped", "truncated", "failed", "failed_listeners")
        # Reentrant: the destructor of an object may report while its thread is reporting.
        self._lock, self._draining = threading.RLock(), threading.RLock()
        self._waiting: list[_Waiting] = []
        self._bytes_waiting = self._dropped = 0
        self._loss_reported_at = -_LOSS_S
        self._listeners: tuple[Listener, ...] = ()
        self._log = LimitedLog(log, per_kind=3, renew_s=_QUIET_S, clock=clock)
        self._wake = threading.Event()
        self._worker = Worker("events", self._run, wake=self._wake.set)
        self._is_started = self._is_closed = False

    def start(self) -> None:
        """Keep what is reported, and what was reported so far, in the background, also while nobody listens."""
        self._is_started = True
        self._run_worker()

    def close(self) -> None:
        """Keep and pass on what was reported so far; later events are kept when they are read."""
        self._is_closed = True
        self._worker.stop()
        self._drain()
        self._listeners = ()

    def report(self, kind: str, subject: str, text: str, severity: Severity = "info", **data: Any) -> None:
        """Report that something happened; never raises, and waits neither for the disk nor for the network.

        Parameters
        ----------
        kind, subject, text, severity
            See `Event`.
        **data
            Values of JSON, NumPy's and pydantic's included. Secrets of pydantic are redacted, other values become
            texts, values above 64 KiB are truncated and marked.
        """
        try:
            self._put(kind, subject, text, severity, data)
        except Exception as error:  # noqa: BLE001 - the caller continues; it is counted
            self.counters.add("failed")
            self._log.warning("report", "an event could not be reported: %r", error)

    def _put(self, kind: str, subject: str, text: str, severity: Severity, data: dict[str, Any]) -> None:
        now = self._clock.now()
        if severity not in SEVERITIES:
            data["severity"], severity = severity, "warning"
        content, is_truncated = _encoded(data)
        kind, subject, text = _text(kind, _LONGEST_NAME), _text(subject, _LONGEST_NAME), _text(text, _LONGEST)
        size = len(content) + len(text)
        self.counters.add("reported")
        if is_truncated:
            self.counters.add("truncated")
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING or self._bytes_waiting + size > _MOST_BYTES_WAITING:
                self._dropped += 1
                self.counters.add("dropped")
                return
            is_first = not self._waiting
            self._waiting.append((now, kind, subject, text, severity, content))
            self._bytes_waiting += size
        if is_first:
            self._wake.set()
        if severity in _LEVELS and kind not in _LOGGED:
            self._log.log(_LEVELS[severity], (kind, subject), "%s %s: %s", kind, subject, text)

    def report_outage(self, change: OutageChange) -> None:
        """Report that an outage has started or ended; see `OutageLog.report_to`."""
        about = {"failures": change.failures, "lasted_s": round(change.lasted_s, 3)}
        if change.state == "ok":
            text = f"{change.key}: recovered after {change.lasted_s:.1f} s"
            self.report("recovered", change.key, text, "info", error=change.error, **about)
        else:
            severity: Severity = "error" if change.state == "outage" else "warning"
            self.report("outage", change.key, f"{change.key}: {change.error}", severity, state=change.state)

    def listen(self, listener: Listener) -> None:
        """Have a function called with the events from now on, in batches, in order; it must return soon."""
        self._drain()
        self._listeners = (*self._listeners, listener)
        self._run_worker()

    def unlisten(self, listener: Listener) -> None:
        """Call a listener no more, except with events that are being passed on at this moment."""
        self._listeners = tuple(other for other in self._listeners if other != listener)
        if not self._listeners and not self._is_started:
            self._worker.stop()

    def _run_worker(self) -> None:
        if not self._is_closed and not self._worker.is_alive:
            self._worker.start()

    def read(
        self,
        start: float | None = None,
        end: float | None = None,
        severity: Severity | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> EventPage:
        """Return events: the oldest from `after` on, otherwise the newest, in the order of their numbers.

        Parameters
        ----------
        start, end : float, optional
            Times, zero or negative for seconds ago; half-open.
        severity : str, optional
            This one or worse.
        kind, subject : str, optional
            Names, shell patterns, or alternatives ``{a,b}``.
        after : int, optional
            The cursor of an earlier page.
        before : int, optional
            Events before that number.
        limit : int, optional
            Most events; fewer are returned if they are large.

        Raises
        ------
        BadRequest
            If a parameter is not valid.
        BadHistory, MissingExtra
            If the disk, or this installation, does not read them; see `Table.read`.
        """
        self._drain()
        conditions: list[Sequence[Any]] = []
        if start is not None or end is not None:
            bounds = EARLIEST if start is None else start, FARTHEST_S if end is None else end
            interval = resolve(*bounds, self._clock.now())
            conditions += [("time", ">=", interval.start), ("time", "<", interval.end)]
        if severity is not None:
            if severity not in SEVERITIES:
                raise BadRequest(f"{severity!r} is not a severity; there are: {', '.join(SEVERITIES)}")
            conditions.append(("severity", "in", SEVERITIES[SEVERITIES.index(severity) :]))
        conditions += [(name, "like", value) for name, value in (("kind", kind), ("subject", subject)) if value]
        order: Literal["ascending", "descending"] = "descending" if after is None else "ascending"
        found = self._table.read(list(COLUMNS), conditions, after, before, limit, order=order, max_size=_ANSWER_SIZE)
        rows = zip(*(values.tolist() for values in found.columns.values()), found.numbers.tolist(), strict=True)
        events = sorted((Event(*row) for row in rows), key=lambda event: event.seq)
        return EventPage(events, found.cursor, found.oldest)

    def status(self) -> dict[str, Any]:
        """Return how many events wait, and the counters."""
        return {"waiting": len(self._waiting), **self.counters.as_dict()}

    def _run(self) -> None:
        while not self._worker.stopping.is_set():
            if self._dropped:  # to be reported once a second
                self._clock.wait(self._wake, _LOSS_S)
            else:
                self._wake.wait()
            # A thread that wakes for each of a thousand events a second takes more time than the events themselves.
            self._worker.stopping.wait(_GATHER_S)
            self._wake.clear()
            try:
                self._drain()
            except Exception:
                log.exception("events could not be kept")

    def _drain(self) -> None:
        """Keep and pass on what was reported; called in any thread, one at a time."""
        with self._draining:
            with self._lock:
                rows, self._waiting, self._bytes_waiting = self._waiting, [], 0
                now = self._clock.monotonic()
                if self._dropped and now - self._loss_reported_at >= _LOSS_S:
                    rows.append(self._loss(self._dropped))
                    self._dropped, self._loss_reported_at = 0, now
            if not rows:
                return
            first = self._table.append(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))
            if self._listeners:
                events = [
                    Event(*row[:5], json.loads(row[5]), seq, len(row[3]) + len(row[5]))
                    for seq, row in enumerate(rows, first)
                ]
                for listener in self._listeners:
                    self._pass_on(listener, events)

    def _loss(self, dropped: int) -> _Waiting:
        text = f"{dropped} events were dropped, since more were reported than can be kept"
        self._log.warning("loss", "%s", text)
        return self._clock.now(), "loss", "events", text, "warning", _encoded({"dropped": dropped})[0]

    def _pass_on(self, listener: Listener, events: Sequence[Event]) -> None:
        try:
            listener(events)
        except Exception as error:  # noqa: BLE001 - the others are called; it is counted
            self.counters.add("failed_listeners")
            self._log.warning("listener", "a listener of events failed: %r", error)


def _text(value: object, longest: int) -> str:
    text = as_encodable(value if isinstance(value, str) else as_text(value))
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


def _encoded(data: Mapping[str, Any]) -> tuple[Encoded, bool]:
    """Return the values of an event as JSON, and whether some of them were truncated."""
    text = as_json(data)
    if len(text) <= _LONGEST:
        return Encoded(text), False
    texts = {key: as_json(value) for key, value in data.items()}
    for longest in (_LONGEST, _SHOWN):
        kept = {
            key: truncated(each, len(each)) if len(each) > longest else json.loads(each) for key, each in texts.items()
        }
        short = as_json(kept)
        if len(short) <= _LARGEST:
            return Encoded(short), any(len(each) > longest for each in texts.values())
    return Encoded(as_json(truncated(text, len(text)))), True
