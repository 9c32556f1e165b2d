"""Asking and subscribing: `Consumer` for asyncio, `BlockingConsumer` for notebooks and scripts.

Both speak through one connection that lives in Twisted's reactor, in a thread of its own where the program
does not run one itself; so they work in any event loop, and beside data nodes in the same process.
"""

import asyncio
import atexit
import concurrent.futures
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import ComponentConfig, SessionDetails
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, maybeDeferred
from twisted.python import threadable
from twisted.python.failure import Failure

from sisock import wire
from sisock.base import Session
from sisock.downsample import Method
from sisock.errors import (
    BadAnswer,
    NodeFailed,
    NoHub,
    NoRouter,
    NoSuchField,
    NoSuchNode,
    NoSuchTimeline,
    NotAllowed,
    SisockError,
    TimedOut,
    TooLarge,
)
from sisock.feed import feed_topic
from sisock.fields import Batch, Column, FieldType, FloatArray, Samples
from sisock.runner import Connection
from sisock.site import Access, access_from_environment

if TYPE_CHECKING:
    import pandas
    import xarray

TIMEOUT_S = 30.0
"""How long an answer may take by default, in seconds, waiting for a router that went away included."""
PATIENCE_S = 5.0
"""How long to try to reach the router at first by default, in seconds."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A data node, as the hub knows it."""

    name: str
    description: str | None


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A field, as its node describes it."""

    name: str
    type: FieldType
    units: str | None
    description: str | None
    timeline: str
    interval_s: float | None
    """Mean seconds between readings; None if aperiodic."""


class Data(Mapping[str, Column]):
    """Samples of some fields of a node: a mapping of field name to ndarray, shape (n,).

    Attributes
    ----------
    node : str
    timelines : dict of str to Samples
        The samples by timeline, with their times, gaps and what is final.
    fields : dict of str to FieldInfo
        Units and descriptions.
    """

    def __init__(self, node: str, timelines: dict[str, Samples], empty: Sequence[str], fields: dict[str, FieldInfo]):
        self.node, self.timelines, self.fields = node, timelines, fields
        self._timeline_of = {name: tl for tl, samples in timelines.items() for name in samples.columns}
        self._empty = tuple(empty)

    def __getitem__(self, name: str) -> Column:
        if name in self._timeline_of:
            return self.timelines[self._timeline_of[name]].columns[name]
        if name in self._empty:
            return np.empty(0)
        raise NoSuchField(f"field {name!r} was not asked for; there are: {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        yield from self._timeline_of
        yield from self._empty

    def __len__(self) -> int:
        return len(self._timeline_of) + len(self._empty)

    def t(self, name: str) -> FloatArray:
        """Return the times of the field `name`: ndarray of float64, shape (n,), UNIX seconds."""
        if name in self._timeline_of:
            return self.timelines[self._timeline_of[name]].t
        self[name]  # raises for a field that was not asked for
        return np.empty(0)

    def units(self, name: str) -> str | None:
        """Return the units of the field `name`, where its node told them."""
        return self.fields[name].units if name in self.fields else None

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame over UTC times, one column per field; units are in ``attrs["units"]``.

        Fields of several timelines are joined on time, missing values being NaN.
        """
        pandas = _optional("pandas")
        frames = [
            pandas.DataFrame(samples.columns, index=pandas.DatetimeIndex(_datetimes(samples.t), tz="UTC", name="time"))
            for samples in self.timelines.values()
        ]
        frame = pandas.concat(frames, axis=1) if frames else pandas.DataFrame(columns=list(self))
        frame.attrs["units"] = {name: self.units(name) for name in self}
        return frame  # type: ignore[no-any-return]

    def to_xarray(self) -> "xarray.Dataset":
        """Return a Dataset with one dimension of UTC times per timeline; units are in each variable's attrs."""
        xarray = _optional("xarray")
        variables = {}
        coordinates = {}
        for timeline, samples in self.timelines.items():
            coordinates[timeline] = (timeline, _datetimes(samples.t))
            for name, values in samples.columns.items():
                info = self.fields.get(name)
                about = {"units": info.units, "long_name": info.description} if info else {}
                variables[name] = (timeline, values, {key: value for key, value in about.items() if value})
        return xarray.Dataset(variables, coordinates, {"node": self.node})

    def __repr__(self) -> str:
        lines = [f"<Data of node {self.node!r}>"]
        for timeline, samples in self.timelines.items():
            first, last = (np.datetime_as_string(_datetimes(samples.t[[0, -1]]), unit="ms")).tolist()
            lines.append(f"  {timeline}: {len(samples.t)} samples, {first}Z to {last}Z")
            for name, values in samples.columns.items():
                units = f" [{units}]" if (units := self.units(name)) else ""
                lines.append(f"    {name}{units}: {np.array2string(values, threshold=6, edgeitems=2)}")
        if self._empty:
            lines.append(f"  no samples: {', '.join(self._empty)}")
        return "\n".join(lines)


class _ConsumerSession(Session):
    """A session that subscribes again, each time it joins, to what its link wants."""

    def __init__(self, link: "_Link", config: ComponentConfig) -> None:
        super().__init__(config)
        self._link = link

    def onJoin(self, details: SessionDetails) -> Any:
        return self._link.joined(self)


class _Link:
    """The connection of a consumer; used in the reactor's thread only."""

    def __init__(self, access: Access, reactor: Any) -> None:
        self._access, self._reactor = access, reactor
        self._connection = Connection(access, lambda config: _ConsumerSession(self, config), reactor=reactor)
        self._connection.ended.addBoth(self._ended)
        self._session: _ConsumerSession | None = None
        self._waiting: list[Deferred[_ConsumerSession]] = []
        self._topics: dict[str, list[Callable[[Any], None]]] = {}
        self._subscriptions: dict[str, Any] = {}  # those of the present session, by topic
        self._end: SisockError | None = None

    def open(self) -> None:
        self._connection.start()

    def close(self) -> Deferred[None]:
        return self._connection.stop()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def joined(self, session: _ConsumerSession) -> Any:
        self._subscriptions = {}
        for topic in tuple(self._topics):
            yield self._subscribe(session, topic)
        self._session = session
        session.on("disconnect", self._away)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(session)

    def _away(self, session: _ConsumerSession, **_details: Any) -> None:
        if self._session is session:
            self._session = None

    def _ended(self, result: Any) -> None:
        self._session = None
        self._end = result.value if isinstance(result, Failure) else NoRouter("this consumer is closed")
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(self._end)

    @property
    def trouble(self) -> SisockError | None:
        """Why there is no session at the moment."""
        return self._connection.trouble

    def session(self) -> Deferred[_ConsumerSession]:
        """Return a Deferred of the session, once it is joined."""
        waiter: Deferred[_ConsumerSession] = Deferred(lambda d: self._waiting.remove(d))  # noqa: PLW0108 - the list is replaced
        if self._session is not None:
            waiter.callback(self._session)
        elif self._end is not None:
            waiter.errback(self._end)
        else:
            self._waiting.append(waiter)
        return waiter

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _ask(self, procedure: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        session = yield self.session()
        try:
            return (yield session.call(session.uri(procedure), *args, **kwargs))
        except TransportLost as error:
            raise NoRouter(f"lost the router at {self._access.url} while waiting for {procedure}") from error
        except ApplicationError as error:
            if error.error == ApplicationError.CANCELED and not session.is_attached():
                raise NoRouter(f"lost the router at {self._access.url} while waiting for {procedure}") from error
            if error.error in (ApplicationError.NOT_AUTHORIZED, ApplicationError.AUTHORIZATION_FAILED):
                raise NotAllowed(f"{self._access.user!r} may not call {procedure}") from error
            raise

    def call(self, timeout_s: float, procedure: str, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Call a procedure below the base URI; fails with TimedOut, or the trouble with the router, after that time."""
        asking: Deferred[Any] = self._ask(procedure, args, kwargs)

        def out_of_time(result: Any, _timeout: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError, ApplicationError):
                if self._session is None and self._connection.trouble is not None:
                    raise self._connection.trouble
                raise TimedOut(f"{procedure} did not answer within {timeout_s:g} s")
            return result

        asking.addTimeout(timeout_s, self._reactor, out_of_time)
        return asking

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def subscribe(self, topic: str, handler: Callable[[Any], None]) -> Any:
        session = yield self.session()
        handlers = self._topics.setdefault(topic, [])
        handlers.append(handler)
        if len(handlers) == 1:
            try:
                yield self._subscribe(session, topic)
            except ApplicationError as error:
                self._topics.pop(topic, None)
                raise NotAllowed(f"{self._access.user!r} may not subscribe to {topic}") from error

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _subscribe(self, session: _ConsumerSession, topic: str) -> Any:
        def deliver(event: Any = None, *_args: Any, **_kwargs: Any) -> None:
            for handler in tuple(self._topics.get(topic, ())):
                handler(event)

        self._subscriptions[topic] = yield session.subscribe(deliver, session.uri(topic))

    def unsubscribe(self, topic: str, handler: Callable[[Any], None]) -> Any:
        handlers = self._topics.get(topic, [])
        if handler in handlers:
            handlers.remove(handler)
        if handlers or topic not in self._topics:
            return None
        del self._topics[topic]
        subscription = self._subscriptions.pop(topic, None)
        if subscription is not None and subscription.active and self._session is not None:
            return subscription.unsubscribe()
        return None


class _Feed:
    """The batches of one feed that wait for their reader: the newest ones, and how many it has missed.

    Filled in the reactor's thread, emptied in the reader's.
    """

    def __init__(self, timeline: str, most: int) -> None:
        self._timeline, self._most = timeline, most
        self._batches: deque[Batch] = deque()
        self._changed = threading.Condition()
        self._seq: int | None = None
        self._wake: Callable[[], object] | None = None
        self._closed = False

    def put(self, event: Any) -> None:
        batch = wire.batch_of(self._timeline, event)
        with self._changed:
            # A number that went back is a node that was started anew: what it took before is unknown.
            missed = max(0, batch.seq - self._seq - 1) if self._seq is not None else 0
            self._seq = batch.seq
            self._batches.append(replace(batch, missed=missed))
            if len(self._batches) > self._most:
                # The reader is too slow: it gets the newest, and is told what it missed.
                dropped, oldest = self._batches.popleft(), self._batches.popleft()
                self._batches.appendleft(replace(oldest, missed=oldest.missed + dropped.missed + 1))
            self._changed.notify_all()
            if self._wake is not None:
                self._wake()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._wake is not None:
                self._wake()

    def get(self, timeout_s: float | None = None) -> Batch | None:
        """Return the next batch, waiting for it; None when that time is over or the feed is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed, timeout_s)
            return self._batches.popleft() if self._batches else None

    async def aget(self) -> Batch | None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        while True:
            with self._changed:
                if self._batches or self._closed:
                    self._wake = None
                    return self._batches.popleft() if self._batches else None
                ready.clear()
                self._wake = lambda: loop.call_soon_threadsafe(ready.set)
            await ready.wait()


class _Requests:
    """What a consumer asks, as Deferreds in the reactor's thread."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._fields: dict[str, dict[str, FieldInfo]] = {}
        self._lists_only: set[str] = set()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def nodes(self, timeout_s: float) -> Any:
        try:
            nodes = yield self._link.call(timeout_s, "consumer.get_data_node")
        except ApplicationError as error:
            if error.error != ApplicationError.NO_SUCH_PROCEDURE:
                raise _translated(error) from error
            raise NoHub("the router is there, but no hub; start it with `sisock hub` or `sisock up`") from error
        return [NodeInfo(node["name"], node.get("description")) for node in nodes]

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def fields(self, node: str, start: float, end: float, timeout_s: float) -> Any:
        answer = yield self.ask(timeout_s, node, "get_fields", start, end)
        try:
            fields, timelines = answer
            infos = {
                name: FieldInfo(
                    name,
                    field["type"],
                    field.get("units"),
                    field.get("description"),
                    field["timeline"],
                    timelines.get(field["timeline"], {}).get("interval"),
                )
                for name, field in fields.items()
            }
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BadAnswer(f"get_fields of node {node!r} answered something else than two dicts: {error!r}") from error
        self._fields.setdefault(node, {}).update(infos)
        return infos

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float,
        min_stride: float | None,
        downsample: Method,
        max_points: int | None,
        timeout_s: float,
    ) -> Any:
        fields = [fields] if isinstance(fields, str) else list(fields)
        known = self._fields.get(node, {})
        if not known.keys() >= set(fields):
            known = yield self.fields(node, 1.0, 0.0, timeout_s)
        # Only what is asked for is sent: nodes that speak the published contract know none of it.
        stride = {} if min_stride is None else {"min_stride": min_stride}
        thins = {} if downsample == "first" else {"downsample": downsample}
        if max_points is not None:
            thins["max_points"] = max_points  # type: ignore[assignment]
        if node not in self._lists_only:
            try:
                answer = yield self.ask(
                    timeout_s, node, "get_data", fields, start, end, **stride, **thins, encoding="packed"
                )
            except NodeFailed as error:
                if "encoding" not in error.message and "downsample" not in error.message:
                    raise
                self._lists_only.add(node)
        if node in self._lists_only:
            plain = {} if thins else stride
            answer = yield self.ask(timeout_s, node, "get_data", fields, start, end, **plain)
            if thins and answer is not False:
                guarded = wire.guard(answer, fields)
                answer = guarded and wire.thinned(guarded, downsample, min_stride or 0.0, max_points)
        if answer is False:
            raise TooLarge(
                f"the answer is beyond what node {node!r} allows at once; ask for a shorter interval, fewer fields "
                "or a min_stride"
            )
        reply = wire.decode(answer, {name: info.timeline for name, info in known.items()})
        return Data(node, reply.timelines, reply.empty, {name: known[name] for name in fields if name in known})

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def subscribe(self, node: str, timeline: str, feed: _Feed, timeout_s: float) -> Any:
        status = yield self.ask(timeout_s, node, "status")
        timelines = status.get("timelines", {})
        if timeline not in timelines:
            raise NoSuchTimeline(
                f"node {node!r} has no timeline {timeline!r}; it has: {', '.join(timelines) or 'none with a feed'}"
            )
        topic = feed_topic(node, timeline, packed=True)
        yield self._link.subscribe(topic, feed.put)
        return lambda: self._link.unsubscribe(topic, feed.put)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def ask(self, timeout_s: float, node: str, procedure: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return (yield self._link.call(timeout_s, f"consumer.{node}.{procedure}", *args, **kwargs))
        except ApplicationError as error:
            if error.error == ApplicationError.NO_SUCH_PROCEDURE:
                known = [info.name for info in (yield self.nodes(timeout_s))]
                if node in known:
                    raise NodeFailed(f"node {node!r} has no procedure {procedure}") from error
                raise NoSuchNode(f"no node {node!r}; known: {', '.join(known) or 'none'}", node=node) from error
            if error.error == ApplicationError.INVALID_URI:
                raise NoSuchNode(f"{node!r} is no name of a node", node=node) from error
            raise _translated(error) from error


def _translated(error: ApplicationError) -> SisockError:
    text = str(error.args[0]) if error.args else error.error_message()
    return NodeFailed(f"{text} ({error.error})")


class _Consumer:
    def __init__(
        self, access: Access | None = None, *, timeout_s: float = TIMEOUT_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._access = access or access_from_environment()
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._link: _Link | None = None
        self._requests: _Requests

    def _opening(self) -> "concurrent.futures.Future[Any]":
        def opened() -> Deferred[Any]:
            self._link = _Link(self._access, _reactor())
            self._requests = _Requests(self._link)
            self._link.open()
            waiting = self._link.session()

            def out_of_time(result: Any, _timeout: float) -> Any:
                assert self._link is not None  # noqa: S101 - just made
                trouble = self._link.trouble
                raise trouble or TimedOut(
                    f"the router at {self._access.url} did not let us in within {self._patience_s:g} s"
                )

            waiting.addTimeout(self._patience_s, _reactor(), out_of_time)
            return waiting

        return in_reactor(opened)

    def _closing(self) -> "concurrent.futures.Future[Any]":
        return in_reactor(lambda: self._link.close() if self._link else None)

    def _request(self, name: str, *args: Any) -> "concurrent.futures.Future[Any]":
        if self._link is None:
            raise NoRouter(f"this consumer is not open; use it in a `with` block: with {type(self).__name__}(...) as c")
        return in_reactor(lambda: getattr(self._requests, name)(*args))


class Consumer(_Consumer):
    """Asks the nodes of a site, from asyncio.

    Parameters
    ----------
    access : sisock.site.Access, optional
        From the environment when not given: WAMP_URI, REALM, WAMP_USER, WAMP_SECRET.
    timeout_s : float
        How long an answer may take, in seconds.
    patience_s : float
        How long to try to reach the router at first, in seconds.

    Examples
    --------
    >>> async with Consumer(access) as c:  # doctest: +SKIP
    ...     data = await c.data("host", ["cpu.total"], start=-600)
    """

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wrap_future(self._opening())
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the router."""
        await asyncio.wrap_future(self._closing())

    async def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows."""
        return await asyncio.wrap_future(self._request("nodes", self._timeout_s))

    async def fields(self, node: str, start: float = 1.0, end: float = 0.0) -> dict[str, FieldInfo]:
        """Return the fields of `node` that have samples in an interval, by name; by default, of all times."""
        return await asyncio.wrap_future(self._request("fields", node, start, end, self._timeout_s))

    async def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float = 0.0,
        min_stride: float | None = None,
        *,
        downsample: Method = "first",
        max_points: int | None = None,
    ) -> Data:
        """Return samples of some fields of `node`.

        Parameters
        ----------
        node : str
        fields : sequence of str
        start, end : float
            UNIX seconds if positive, otherwise seconds relative to now; half-open.
        min_stride : float, optional
            Seconds by which successive samples are to be apart at least.
        downsample : {"first", "mean", "min", "max", "minmax", "lttb"}
            How samples are thinned out; ``minmax`` loses no spike.
        max_points : int, optional
            Most samples that each timeline may have; the node chooses the stride.

        Raises
        ------
        NoSuchNode, BadRequest, TooLarge, NodeFailed, NoRouter, TimedOut
        """
        request = self._request("data", node, fields, start, end, min_stride, downsample, max_points, self._timeout_s)
        return await asyncio.wrap_future(request)

    async def status(self, node: str) -> dict[str, Any]:
        """Return the health and the counters of `node`."""
        return await asyncio.wrap_future(self._request("ask", self._timeout_s, node, "status"))

    async def procedures(self, node: str) -> list[dict[str, Any]]:
        """Return the control procedures of `node`: name, description, parameters as a JSON schema."""
        return await asyncio.wrap_future(self._request("ask", self._timeout_s, node, "procedures"))

    async def subscribe(self, node: str, timeline: str, *, buffer: int = 1000) -> AsyncIterator[Batch]:
        """Yield the batches of a timeline as they come, for ever; a reconnect goes on by itself.

        Parameters
        ----------
        node, timeline : str
        buffer : int
            Most batches that wait for a slow reader; then the oldest are dropped, and the next batch's
            `missed` says how many.

        Raises
        ------
        NoSuchNode, NoSuchTimeline
        """
        feed = _Feed(timeline, buffer)
        unsubscribe = await asyncio.wrap_future(self._request("subscribe", node, timeline, feed, self._timeout_s))
        try:
            while (batch := await feed.aget()) is not None:
                yield batch
        finally:
            in_reactor(unsubscribe)


class BlockingConsumer(_Consumer):
    """Asks the nodes of a site, from plain scripts and notebooks; see `Consumer` for what the methods do.

    Examples
    --------
    >>> with BlockingConsumer(access) as c:  # doctest: +SKIP
    ...     c.data("host", ["cpu.total"], start=-600).to_pandas()
    """

    def __enter__(self) -> Self:
        try:
            self._opening().result()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the router."""
        self._closing().result(5.0)

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows."""
        return self._request("nodes", self._timeout_s).result()  # type: ignore[no-any-return]

    def fields(self, node: str, start: float = 1.0, end: float = 0.0) -> dict[str, FieldInfo]:
        """Return the fields of `node` that have samples in an interval, by name; by default, of all times."""
        return self._request("fields", node, start, end, self._timeout_s).result()  # type: ignore[no-any-return]

    def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float = 0.0,
        min_stride: float | None = None,
        *,
        downsample: Method = "first",
        max_points: int | None = None,
    ) -> Data:
        """Return samples of some fields of `node`; see `Consumer.data`."""
        request = self._request("data", node, fields, start, end, min_stride, downsample, max_points, self._timeout_s)
        return request.result()  # type: ignore[no-any-return]

    def status(self, node: str) -> dict[str, Any]:
        """Return the health and the counters of `node`."""
        return self._request("ask", self._timeout_s, node, "status").result()  # type: ignore[no-any-return]

    def procedures(self, node: str) -> list[dict[str, Any]]:
        """Return the control procedures of `node`: name, description, parameters as a JSON schema."""
        return self._request("ask", self._timeout_s, node, "procedures").result()  # type: ignore[no-any-return]

    def subscribe(self, node: str, timeline: str, *, buffer: int = 1000) -> Iterator[Batch]:
        """Yield the batches of a timeline as they come, for ever; see `Consumer.subscribe`."""
        feed = _Feed(timeline, buffer)
        unsubscribe = self._request("subscribe", node, timeline, feed, self._timeout_s).result()
        try:
            # In slices, so that Ctrl-C is seen on every platform.
            while True:
                if (batch := feed.get(1.0)) is not None:
                    yield batch
        finally:
            in_reactor(unsubscribe)


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


_starting = threading.Lock()


def in_reactor(make: Callable[[], Any]) -> "concurrent.futures.Future[Any]":
    """Run `make` in the reactor's thread and return a future of its result, starting the reactor if need be."""
    reactor = _reactor()
    with _starting:
        if not reactor.running and not reactor._started:  # noqa: SLF001 - `running` is set only once it turns
            up = threading.Event()
            reactor.callWhenRunning(up.set)
            # A program that runs the reactor itself must do so before its first consumer.
            threading.Thread(target=reactor.run, args=(False,), name="sisock reactor", daemon=True).start()
            atexit.register(lambda: reactor.callFromThread(reactor.stop) if reactor.running else None)
            up.wait(10.0)
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        maybeDeferred(make).addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))

    if threadable.isInIOThread() and not _asyncio_runs_here():
        raise RuntimeError("a consumer cannot wait in the reactor's own thread; use its Session, or another thread")
    reactor.callFromThread(run)
    return future


def _asyncio_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _optional(package: str) -> Any:
    from importlib import import_module

    from sisock.errors import MissingExtra

    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtra(f"{package} is not installed; run: pip install 'sisock[{package}]'") from error


def _datetimes(t: FloatArray) -> Any:
    return np.round(t * 1e6).astype("datetime64[us]")
