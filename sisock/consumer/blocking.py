"""The consumer for notebooks and scripts."""

import concurrent.futures
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Self

from sisock.consumer.asynchronous import Consumer
from sisock.consumer.blocking_follow import BlockingFollow
from sisock.consumer.completion import allow_completion
from sisock.consumer.connection import START, documented_as
from sisock.consumer.data import Data
from sisock.consumer.events import events_asked, events_of
from sisock.consumer.handles import NodeHandle
from sisock.consumer.lists import FieldList, NodeList
from sisock.consumer.live import LiveFeed
from sisock.consumer.progress import waited_for
from sisock.consumer.requests import Progress
from sisock.consumer.router_thread import later_in_reactor
from sisock.downsample import Method
from sisock.errors import SisockError
from sisock.event import EventPage, Severity
from sisock.fields import Batch
from sisock.timelike import Span, Time

__all__ = ["BlockingConsumer"]


class BlockingConsumer(BlockingFollow):
    """Reads and calls the nodes of a site, from notebooks and scripts.

    It joins the router at its first request, or at the start of a ``with`` block, and leaves it at
    `close`, at the end of the block, when no reference to it is left, or at the end of the program.

    ``c["rig"]`` is a node, ``c["rig"]["strain.beam"]`` a field, ``c["rig"].procedures`` what can be called; their names
    are completed by Tab.

    Parameters
    ----------
    site : str, path or sisock.access.Access, optional
        The folder or the file of a site, or how its router is reached; found as the commands do when not given, see
        `sisock.site.find_access`.
    role : {"consumer", "operator"}
        The account of the site to log in with; only an operator may call commands. Not with an
        `Access`, which has an account.
    timeout_s : float
        Seconds without any part of an answer after which a call fails.
    patience_s : float
        Seconds to wait for the router when opening; with 0 the consumer opens immediately and joins later.
    cache_bytes : int
        Bytes of final answers to cache; 0 disables the cache.

    Attributes
    ----------
    show_progress : bool
        Whether reads, and results of runs, that take longer than a second show a progress bar, in notebooks and on
        terminals; needs tqdm.

    Examples
    --------
    >>> c = BlockingConsumer()  # doctest: +SKIP
    >>> c.data("host", ["cpu.total"], start="-10m").to_pandas()  # doctest: +SKIP
    """

    def open(self) -> Self:
        """Join the router, if that has not been done; the first request does it, too.

        Raises
        ------
        NoRouter, Refused, TimedOut

        Examples
        --------
        >>> c = BlockingConsumer().open()  # doctest: +SKIP
        """
        __tracebackhide__ = True
        with self._once:
            if self._link is None:
                allow_completion(BlockingConsumer)
                try:
                    self._result(self._opening())
                except BaseException:
                    self._closing().result(5.0)  # followings wait for the router
                    self._link = None
                    raise
        return self

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        self._link = self._link if self.trouble is None else None
        return self.open()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the router.

        Examples
        --------
        >>> c.close()  # doctest: +SKIP
        """
        self._closing().result(5.0)
        self._end_following()

    def _request(self, name: str, *args: Any, **options: Any) -> "concurrent.futures.Future[Any]":
        __tracebackhide__ = True
        self.open()
        return super()._request(name, *args, **options)

    @documented_as(Consumer.nodes)
    def nodes(self) -> NodeList:
        """See `Consumer.nodes`."""
        __tracebackhide__ = True
        return NodeList(self._result(self._request("nodes", self._timeout_s)))

    @documented_as(Consumer.fields)
    def fields(self, node: str, start: Time = 1.0, end: Time = 0.0) -> FieldList:
        """See `Consumer.fields`."""
        __tracebackhide__ = True
        return FieldList(self._result(self._request_fields(node, start, end)))

    @documented_as(Consumer.data)
    def data(
        self,
        node: str,
        fields: str | Sequence[str],
        start: Time = START,
        end: Time = 0.0,
        min_stride: Span | None = None,
        *,
        downsample: Method | None = None,
        max_points: int | None = None,
        progress: Progress | None = None,
        exact: bool = False,
    ) -> Data:
        """See `Consumer.data`."""
        __tracebackhide__ = True
        question = (node, fields, start, end, min_stride, downsample, max_points)
        if progress is not None or not self.show_progress:
            return self._result(self._request_data(*question, progress, exact=exact))  # type: ignore[no-any-return]
        request = waited_for(node, lambda progress: self._request_data(*question, progress, exact=exact))
        return self._result(request)  # type: ignore[no-any-return]

    @documented_as(Consumer.status)
    def status(self, node: str) -> dict[str, Any]:
        """See `Consumer.status`."""
        __tracebackhide__ = True
        return self._result(self._request("status", node, self._timeout_s))  # type: ignore[no-any-return]

    @documented_as(Consumer.router_status)
    def router_status(self) -> dict[str, Any]:
        """See `Consumer.router_status`."""
        __tracebackhide__ = True
        return self._result(self._request("router_status", self._timeout_s))  # type: ignore[no-any-return]

    @documented_as(Consumer.events)
    def events(
        self,
        node: str,
        start: Time | None = None,
        end: Time | None = None,
        *,
        severity: Severity | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> EventPage:
        """See `Consumer.events`."""
        __tracebackhide__ = True
        which = {"severity": severity, "kind": kind, "subject": subject, "after": after, "before": before}
        asked = events_asked(start, end, {**which, "limit": limit})
        return events_of(node, self._result(self._request("query", self._timeout_s, node, "events", asked)))

    @documented_as(Consumer.subscribe)
    def subscribe(self, node: str, timeline: str, *, buffer: int = 1000) -> Iterator[Batch]:
        """See `Consumer.subscribe`."""
        __tracebackhide__ = True
        feed = LiveFeed(timeline, buffer)
        unsubscribe = self._result(self._request("subscribe", node, timeline, feed, self._timeout_s))
        try:
            # In slices, so that Ctrl-C is seen on every platform.
            while (batch := feed.get(1.0)) is not None or not feed.is_closed:
                if batch is not None:
                    yield batch
        finally:
            if not sys.is_finalizing():  # the reactor has stopped, and so has the subscription
                later_in_reactor(unsubscribe)

    def __getitem__(self, node: str) -> NodeHandle:
        """Return a node by its name.

        Raises
        ------
        NoSuchNode
            If there is no such node; with the names that are most like it.

        Examples
        --------
        >>> c["rig"]["strain.beam"].data("-1h").plot()  # doctest: +SKIP
        """
        __tracebackhide__ = True
        nodes = self.nodes()
        for info in nodes:
            if info.name == node:
                return NodeHandle(self, info)
        known = [info.name for info in nodes]
        raise self._result(self._request("no_such_node", self._timeout_s, node, known))

    def __iter__(self) -> Iterator[str]:
        return iter([info.name for info in self.nodes()])

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        state = "joins when first asked" if self._link is None else self.trouble.message if self.trouble else "joined"
        return f"<BlockingConsumer {self.access.user}@{self.access.url}: {state}>"

    def _repr_html_(self) -> str | None:
        try:
            return self.nodes()._repr_html_()
        except SisockError:
            return None  # then the text is shown, which has the error
