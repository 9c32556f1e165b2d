"""The requests of a consumer, and the decoding of answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, inlineCallbacks

from sisock.consumer.cache import FinalAnswers
from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.consumer.live import LiveFeed
from sisock.consumer.router_thread import RouterThread, the_reactor
from sisock.consumer.signal import Signal
from sisock.downsample import Method
from sisock.errors import (
    BadAnswer,
    NodeFailed,
    NoHub,
    NoSuchNode,
    NoSuchTimeline,
    SisockError,
    TimedOut,
    TooLarge,
)
from sisock.fields import Reply, type_of
from sisock.patterns import choose_fields, did_you_mean, is_plain
from sisock.times import SYSTEM_CLOCK, ago, iso
from sisock.wamp.chunks import Assembly
from sisock.wamp.publisher import feed_topic, watermark_topic
from sisock.wamp.replies import decode, downsample_reply
from sisock.wamp.wire import axis_of, epochs_of

Question = tuple[str, tuple[str, ...], float, float, float | None, Method, int | None]
"""Node, fields, start, end, min_stride, downsample and max_points: what the samples of an answer depend on."""
Progress = Callable[[int, int], None]
"""Called with the bytes that have come and those that are to come altogether; in the reactor's thread."""


# Questions for samples to one node at a time: a node of ours lets as many wait, and refuses more.
_QUESTIONS = 8
_NUMBERS = ("oldest", "newest", "finalized_until", "seq", "reset")
_TYPES = ("number", "string", "bool")
# Optional procedures of a node, and the answer that stands for a missing one.
_OPTIONAL: Mapping[str, Callable[[], Any]] = {"status": dict, "procedures": list}
# Part of the error of a node that refuses keywords outside the published contract.
_UNKNOWN = ("encoding", "downsample", "max_points", "invalid_argument")


class Requests:
    """The requests of a consumer, as Deferreds in the reactor's thread."""

    def __init__(self, link: RouterThread, final: FinalAnswers) -> None:
        self._link, self._final = link, final
        self._fields: dict[str, dict[str, FieldInfo]] = {}
        self._plain: set[str] = set()  # nodes that know no more than the published contract
        self._feeds: set[LiveFeed] = set()
        self.suspended: dict[str | None, str] = {}
        """The reasons for which requests to nodes are suspended, by name; None for all nodes."""
        self._turns: WeakValueDictionary[str, DeferredSemaphore] = WeakValueDictionary()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def nodes(self, timeout_s: float) -> Any:
        """Request the list of nodes from the hub."""
        try:
            nodes = yield self._link.call(timeout_s, "consumer.get_data_node")
        except ApplicationError as error:
            if error.error != ApplicationError.NO_SUCH_PROCEDURE:
                raise translated(error) from error
            raise NoHub("the router is reachable, but no hub; start it with `sisock hub` or `sisock up`") from error
        return [NodeInfo(node["name"], node.get("description")) for node in nodes]

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def no_such_node(self, timeout_s: float, node: str, known: list[str]) -> Any:
        """Return the error about a node that does not exist, with the time when it left if it did."""
        try:
            left = (yield self._link.call(timeout_s, "consumer.get_departed_data_node")).get(node)
        except (ApplicationError, SisockError):
            left = None  # older hubs do not know; the error is about the node in any case
        if left is not None:
            lacks, hint = f"node {node!r} left at {iso(left)} ({ago(SYSTEM_CLOCK.now() - left)})", ""
        else:
            lacks, hint = f"no node {node!r}", f"{meant} " if (meant := did_you_mean(str(node), known)) else ""
        return NoSuchNode(f"{lacks}; {hint}known: {', '.join(known) or 'none'}", node=node)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def router_status(self, timeout_s: float) -> Any:
        """Ask the router for its connections and counters; routers without our guard report nothing."""
        try:
            return (yield self._link.call(timeout_s, "consumer.get_router_status"))
        except ApplicationError as error:
            if error.error != ApplicationError.NO_SUCH_PROCEDURE:
                raise translated(error) from error
            return {}

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def fields(self, node: str, start: float, end: float, timeout_s: float) -> Any:
        """Ask a node for its fields, and remember them."""
        answer = yield self.ask(timeout_s, node, "get_fields", start, end)
        infos = _field_infos(node, answer)
        known = self._fields.setdefault(node, {})
        # Their past descriptions do not apply to later requests.
        known.update(infos if end == 0.0 else {name: info for name, info in infos.items() if name not in known})
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
        progress: Progress | None,
        timeout_s: float,
        *,
        exact: bool = True,
    ) -> Any:
        """Ask a node for samples: packed where it knows that, as lists where not; not at all when they are known.

        Fields are names or patterns of those that exist, unless they are `exact`: then ones that do not exist have no
        samples.
        """
        names = (fields,) if isinstance(fields, str) else tuple(fields)
        if not exact and not self._fields.get(node, {}).keys() >= set(names):
            known = yield self.fields(node, 1.0, 0.0, timeout_s)
            # A node that has nothing at all has only just begun.
            names = tuple(choose_fields(node, names, known)) if known or not all(map(is_plain, names)) else names
        question: Question = (node, names, start, end, min_stride, downsample, max_points)
        if answered := self._final.get(question):
            return answered
        turns = self._turns.setdefault(node, DeferredSemaphore(_QUESTIONS))
        data = yield turns.run(self._data, question, progress, timeout_s)
        self._final.put(question, start, end, data)
        return data

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _data(self, question: Question, progress: Progress | None, timeout_s: float) -> Any:
        node, names, start, end, min_stride, downsample, max_points = question
        fields = list(names)
        known = self._fields.get(node, {})
        if not known.keys() >= set(fields):
            known = yield self.fields(node, 1.0, 0.0, timeout_s)
        # Only what is asked for is sent: nodes that speak the published contract know none of it.
        stride = {} if min_stride is None else {"min_stride": min_stride}
        thins: dict[str, Any] = {} if downsample == "first" else {"downsample": downsample}
        if max_points is not None:
            thins["max_points"] = max_points
        timeline_of = {name: info.timeline for name, info in known.items()}
        if node not in self._plain:
            try:
                answer = yield self._ask_in_chunks(
                    progress, timeout_s, node, fields, start, end, **stride, **thins, encoding="packed"
                )
            except NodeFailed as error:
                if not any(key in error.message for key in _UNKNOWN):
                    raise
                self._plain.add(node)
            else:
                reply = _reply(node, answer, timeline_of)
                if thins and any(samples.downsample is None for samples in reply.timelines.values()):
                    self._plain.add(node)  # it has ignored them
        if node in self._plain:
            # Of `min_stride` alone such a node would make another method's bins empty.
            answer = yield self.ask(timeout_s, node, "get_data", fields, start, end, **({} if thins else stride))
            reply = _reply(node, answer, timeline_of)
        if stride or thins:
            reply = downsample_reply(reply, downsample, min_stride or 0.0, max_points)
        infos = {name: _in_answer(known[name], reply) for name in fields if name in known}
        return Data(node, reply.timelines, reply.empty, infos)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _ask_in_chunks(self, progress: Progress | None, timeout_s: float, node: str, *args: Any, **kwargs: Any) -> Any:
        """Call get_data, and put the answer together when it comes in chunks; after one that fails no more are kept."""
        assembly = Assembly()
        trouble: Exception | None = None

        def add(chunk: Any) -> None:
            nonlocal assembly, trouble
            if trouble is not None:
                return
            try:
                assembly.add(chunk)
                if progress is not None:
                    progress(assembly.received, assembly.total)
            except Exception as error:  # noqa: BLE001 - autobahn would only log it
                # Its traceback holds the chunk, in a cycle with this frame.
                assembly, trouble = Assembly(), error.with_traceback(None)

        answer = yield self.ask(timeout_s, node, "get_data", *args, on_progress=add, **kwargs)
        if trouble is not None:
            try:
                raise trouble
            finally:
                del trouble, answer  # the cycle of the exception and this frame keeps the last chunk otherwise
        return assembly.whole(answer)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def subscribe(self, node: str, timeline: str, feed: LiveFeed, timeout_s: float, *, watermarks: bool = False) -> Any:
        """Fill `feed` from now on, on request also with watermarks; the result is a function that ends it."""
        status = yield self.status(node, timeout_s)
        timelines = status.get("timelines", {})
        if not status:  # it has none; that of its feeds which everybody can read is all that it may have
            timelines = {info.timeline for info in (yield self.fields(node, 1.0, 0.0, timeout_s)).values()}
        if timeline not in timelines:
            raise NoSuchTimeline(
                f"node {node!r} has no timeline {timeline!r}; it has: {', '.join(timelines) or 'none with a feed'}"
            )
        topics = {feed_topic(node, timeline, packed=bool(status)): feed.put}
        if watermarks and status.get("watermarks"):
            topics[watermark_topic(node, timeline)] = feed.put_watermark
            feed.has_watermarks = True

        def unsubscribe() -> Any:
            self._feeds.discard(feed)
            left = [self._link.unsubscribe(topic, put) for topic, put in topics.items()]
            return DeferredList([each for each in left if each is not None], consumeErrors=True)

        try:
            for topic, put in topics.items():
                yield self._link.subscribe(topic, put)
        except BaseException:
            unsubscribe()
            raise
        self._feeds.add(feed)
        return unsubscribe

    def signal(self, topics: Sequence[str], timeout_s: float) -> "Deferred[Signal]":
        """Return a Deferred of a signal that is set by events on topics."""
        opening: Deferred[Signal] = Signal(self._link, topics).open()
        return opening.addTimeout(timeout_s, the_reactor(), self._out_of_time)

    def _out_of_time(self, _result: Any, timeout_s: float) -> NoReturn:
        raise self._link.trouble or TimedOut(f"the router did not subscribe within {timeout_s:g} s")

    def end(self) -> None:
        """Let the readers of all feeds end."""
        for feed in self._feeds:
            feed.close()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def status(self, node: str, timeout_s: float) -> Any:
        """Request the status of a node; empty if it has no such procedure."""
        status = yield self.ask(timeout_s, node, "status")
        if not isinstance(status, dict) or not _is_status(status.get("timelines", {})):
            raise BadAnswer(f"status of node {node!r} answered something else than a dict, with one for each timeline")
        for timeline, about in status.get("timelines", {}).items():
            self._final.reset(node, timeline, int(about.get("reset") or 0))
        return status

    def check_suspended(self, node: str) -> None:
        """Raise TimedOut while requests to a node are suspended."""
        for suspended in (None, node):
            if (reason := self.suspended.get(suspended)) is not None:
                raise TimedOut(f"{reason}; calls are sent again as soon as it answers")

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def ask(self, timeout_s: float, node: str, procedure: str, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure of a node; the error of an unknown node lists those that exist."""
        if procedure != "status":
            self.check_suspended(node)
        try:
            return (yield self._link.call(timeout_s, f"consumer.{node}.{procedure}", *args, **kwargs))
        except ApplicationError as error:
            if error.error == ApplicationError.NO_SUCH_PROCEDURE:
                known = [info.name for info in (yield self.nodes(timeout_s))]
                if node in known and procedure in _OPTIONAL:
                    return _OPTIONAL[procedure]()
                if node in known:
                    raise NodeFailed(f"node {node!r} has no procedure {procedure}") from error
                raise (yield self.no_such_node(timeout_s, node, known)) from error
            if error.error == ApplicationError.INVALID_URI:
                raise NoSuchNode(f"{node!r} is not a valid name of a node", node=node) from error
            raise translated(error) from error


def _in_answer(info: FieldInfo, reply: Reply) -> FieldInfo:
    """Return a field as described at the end of an answer; its node may have described it before a change, or after."""
    for samples in reply.timelines.values():
        if info.name in samples.columns:
            epochs = samples.epochs.get(info.name, [])
            units = samples.units.get(info.name, info.units)
            kind = epochs[-1][1].type if epochs else type_of(samples.columns[info.name])
            return replace(info, units=units, type=kind, epochs=tuple(epochs))
    return info


def _reply(node: str, answer: Any, timeline_of: Mapping[str, str]) -> Reply:
    """Return the parsed answer of a node to get_data."""
    if answer is False:
        raise TooLarge(
            f"the answer is beyond what node {node!r} allows at once; ask for a shorter interval, fewer fields "
            "or a min_stride"
        )
    try:
        return decode(answer, timeline_of)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadAnswer(f"get_data of node {node!r} is not valid: {error!r}") from error


def _is_status(timelines: Any) -> bool:
    """Whether the timelines of a status are valid: times and counts are numbers."""
    return isinstance(timelines, dict) and all(
        isinstance(about, dict) and all(isinstance(about.get(key), int | float | None) for key in _NUMBERS)
        for about in timelines.values()
    )


def _wrong_in(info: Any) -> str | None:
    """Return the error in a field's description; None if it is valid."""
    if info.type not in _TYPES:
        return f"it is a {info.type!r}; there are {', '.join(_TYPES)}"
    if not (isinstance(info.name, str) and isinstance(info.timeline, str)):
        return f"its timeline is {info.timeline!r}; names are texts"
    if not (isinstance(info.units, str | None) and isinstance(info.description, str | None)):
        return "its units or its description are not texts"
    if not isinstance(info.interval_s, int | float | None):
        return f"its interval is {info.interval_s!r}; give seconds, or nothing if it is aperiodic"
    return None


def translated(error: ApplicationError) -> SisockError:
    """Return the error of a node or the router that is none of ours as one of ours."""
    text = str(error.args[0]) if error.args else error.error_message()
    return NodeFailed(f"{text} ({error.error})")


def _field_infos(node: str, answer: Any) -> dict[str, FieldInfo]:
    """Return the fields that a node's answer to ``get_fields`` describes; BadAnswer if it is invalid."""
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
                tuple(epochs_of(name, field.get("epochs") or ())),
                tuple(map(int, field.get("shape") or ())),
                axis_of(field.get("axis")),
            )
            for name, field in fields.items()
        }
        for info in infos.values():
            if wrong := _wrong_in(info):
                raise BadAnswer(
                    f"get_fields of node {node!r} has an invalid description of field {info.name!r}: {wrong}"
                )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadAnswer(f"get_fields of node {node!r} answered something else than two dicts: {error!r}") from error
    return infos
