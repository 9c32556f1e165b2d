"""The changes of a run, followed through the losses of the router and of its node."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from sisock.consumer.router_thread import RouterThread, later_in_reactor
from sisock.errors import BadAnswer, RunCancelled, RunFailed, SisockError
from sisock.jsontext import size_of
from sisock.runs import ENDED, Change

# Changes that wait for readers, and the bytes of their updates; the oldest are dropped.
_MOST_CHANGES, _MOST_BYTES = 10_000, 64_000_000
# Changes that have come before the ones that precede them.
_MOST_EARLY = 1000
# Seconds until the run is looked up again while its node does not answer.
_SHORTEST_S, _LONGEST_S = 5.0, 60.0
_ARRIVALS = "consumer.data_node_added"


class RunFollower:
    """Keeps the changes of a run in sequence, until the run has ended.

    Its node publishes them. What is missing is fetched from the node: when the follower begins, where a number is
    left out, and when the router or the node has returned. Nothing that happens to it has an effect on the run.

    Filled in the reactor's thread, read in any.

    Parameters
    ----------
    link : RouterThread
    node, number : str
        The node, and the id of the run.
    name : str
        The operation.
    ask : callable
        Returns a Deferred of the description of the run, with the changes after a number.

    Attributes
    ----------
    about : dict
        The newest description of the run by its node.
    over : concurrent.futures.Future
        Done when the run has ended, or cannot be followed any more.
    error : SisockError or None
        The error that ended the following.
    """

    def __init__(
        self, link: RouterThread, node: str, number: str, name: str, ask: Callable[[int], "Deferred[Any]"]
    ) -> None:
        self.node, self.id = node, number
        self._link, self._ask = link, ask
        self.about: Mapping[str, Any] = {"id": number, "name": name, "state": "queued"}
        self.over: Future[None] = Future()
        self.error: SisockError | None = None
        self._newest: Change | None = None
        self._update: Any = None
        self._lock = threading.Lock()
        self._changes: deque[Change] = deque()
        self._seq = self._bytes = 0
        self._early: dict[int, Change] = {}
        self._waiting: list[Future[None]] = []
        self._topics = {f"consumer.{node}.operation.{number}": self._on_event, _ARRIVALS: self._on_arrival}
        self._is_looking = self._looks_again = self._is_closed = False
        self._delay = _SHORTEST_S
        self._retry: Any = None

    # Read in any thread

    @property
    def name(self) -> str:
        """The operation."""
        return str(self.about["name"])

    @property
    def state(self) -> str:
        """The state of the run, as last known."""
        return self._newest.state if self._newest is not None else str(self.about["state"])

    @property
    def progress(self) -> float | None:
        """The progress, as last known."""
        return self._newest.progress if self._newest is not None else self.about.get("progress")

    @property
    def message(self) -> str | None:
        """The text of the progress, as last known."""
        return self._newest.message if self._newest is not None else self.about.get("message")

    @property
    def update(self) -> Any:
        """The last update, as last known."""
        return self._update if self._update is not None else self.about.get("update")

    def after(self, seq: int) -> list[Change]:
        """Return the changes after a number, as far as they are kept."""
        found: list[Change] = []
        with self._lock:
            for change in reversed(self._changes):
                if change.seq <= seq:
                    break
                found.append(change)
        return found[::-1]

    def changed(self, after: int) -> "Future[None]":
        """Return a future that is done as soon as there is a change after a number, or there will be no more."""
        future: Future[None] = Future()
        with self._lock:
            if self._seq > after or self.over.done():
                future.set_result(None)
            else:
                self._waiting = [other for other in self._waiting if not other.cancelled()]
                self._waiting.append(future)
        return future

    def outcome(self) -> Any:
        """Return the result of the run, which is over.

        Raises
        ------
        RunFailed, RunCancelled
            If it failed, or was cancelled.
        SisockError
            If it could not be followed to its end.
        """
        if self.error is not None:
            raise self.error
        if self.state == "done":
            return self.about.get("result")
        kind = RunCancelled if self.state == "cancelled" else RunFailed
        raise kind(f"{self.name}: {self.about.get('error') or self.state} (run {self.id} of node {self.node!r})")

    # Filled in the reactor's thread

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def open(self) -> Any:
        """Follow the run from now on."""
        if self.over.done():
            return
        self._link.listen(self.look)
        try:
            for topic, handler in self._topics.items():
                yield self._link.subscribe(topic, handler)
        except SisockError as error:
            self._end(error)
        if self._is_closed:
            self._leave()
        else:
            self.look()

    def close(self) -> None:
        """Follow the run no more."""
        if not self._is_closed:
            self._is_closed = True
            self._leave()

    def _leave(self) -> None:
        self._link.unlisten(self.look)
        for topic, handler in self._topics.items():
            later_in_reactor(partial(self._link.unsubscribe, topic, handler))
        if self._retry is not None and self._retry.active():
            self._retry.cancel()

    def look(self) -> None:
        """Fetch what is missing; while the node does not answer, again later."""
        if self._is_closed or self._is_looking:
            self._looks_again = self._is_looking
            return
        self._is_looking, self._looks_again = True, False
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self.fetch().addCallbacks(self._on_found, self._on_lost)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def fetch(self) -> Any:
        """Fetch the run and its changes that are missing."""
        while (yield self._fetch_some()):
            pass

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _fetch_some(self) -> Any:
        """Fetch the run and the first of its changes that are missing; return whether there are more of them."""
        answer = yield self._ask(self._seq)
        try:
            described = {key: value for key, value in answer.items() if key != "changes"}
            state, seq = described["state"], int(described.get("seq") or 0)
            changes = [_parsed(each) for each in answer["changes"]]
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise BadAnswer(f"node {self.node!r} describes run {self.id} in an unknown form: {error!r}") from error
        before = self._seq
        for change in changes:
            self._add(change)
        if before < self._seq < seq:  # an answer has some megabytes at most
            self._wake()
            return True
        is_over = state in ENDED
        if is_over and self.state != state:  # its last changes are not kept any more
            last = max(seq, self._seq + 1)
            self._add(Change(last, state, described.get("progress"), described.get("message")))
        self.about = described
        if is_over:
            self._end()
        else:
            self._add_early()
        self._wake()
        return False

    def _on_found(self, _result: Any) -> None:
        self._is_looking, self._delay = False, _SHORTEST_S
        if self._looks_again or self._early or self.state in ENDED:
            self.look()

    def _on_lost(self, failure: Failure) -> None:
        self._is_looking = False
        error = failure.value
        if isinstance(error, SisockError) and not error.retriable:
            self._end(error)
        elif isinstance(error, SisockError) or getattr(error, "error", "") == ApplicationError.NO_SUCH_PROCEDURE:
            if self._looks_again:
                self.look()
            elif not self._is_closed:
                self._retry = self._link.later(self._delay, self.look)
                self._delay = min(2 * self._delay, _LONGEST_S)
        else:
            self._end(BadAnswer(f"run {self.id} of node {self.node!r} cannot be looked up: {error}"))

    def _on_arrival(self, node: Any) -> None:
        if isinstance(node, dict) and node.get("name") == self.node:
            self.look()

    def _on_event(self, event: Any) -> None:
        try:
            change = _parsed(event)
        except (TypeError, KeyError):
            self.look()  # its answer shows whether the node speaks another contract
            return
        if len(self._early) >= _MOST_EARLY:
            self._early.clear()
        self._early[change.seq] = change
        self._add_early()
        if self._early or self.state in ENDED:
            self.look()
        self._wake()

    def _add_early(self) -> None:
        """Add the changes that have come early, as far as none before them is missing."""
        while (change := self._early.pop(self._seq + 1, None)) is not None:
            self._add(change)
        if self._early:
            self._early = {seq: each for seq, each in self._early.items() if seq > self._seq}

    def _add(self, change: Change) -> None:
        if change.seq <= self._seq:
            return
        with self._lock:
            self._seq, self._newest = change.seq, change
            self._update = change.update if change.update is not None else self._update
            self._changes.append(change)
            self._bytes += change.size
            while len(self._changes) > _MOST_CHANGES or self._bytes > _MOST_BYTES:
                self._bytes -= self._changes.popleft().size

    def _end(self, error: SisockError | None = None) -> None:
        if not self.over.done():
            self.error = error
            self.over.set_result(None)
        self.close()
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)


def _parsed(change: Mapping[str, Any]) -> Change:
    """Return a change as its node publishes it."""
    update = change["update"]
    size = 0 if update is None else size_of(update)
    return Change(int(change["seq"]), change["state"], change["progress"], change["message"], update, size)
