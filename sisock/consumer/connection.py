"""The base of `Consumer` and `BlockingConsumer`: opening, closing, and passing requests to the reactor."""

import concurrent.futures
import logging
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from traceback import TracebackException
from typing import Any, Literal, TypeVar

from twisted.internet.defer import Deferred

from sisock.access import Access
from sisock.consumer.cache import FinalAnswers
from sisock.consumer.followings import Followings
from sisock.consumer.requests import Progress
from sisock.consumer.router_thread import RouterThread, in_reactor, the_reactor
from sisock.consumer.work import WorkRequests
from sisock.downsample import Method
from sisock.errors import BadRequest, NoRouter, NotOpen, SisockError, TimedOut
from sisock.site import Where, find_access
from sisock.timelike import Span, Time, as_span, as_start, as_time

ROLES = ("consumer", "operator")
"""Roles of a consumer; each has an account at a site."""
TIMEOUT_S = 30.0
"""How long an answer may take by default, in seconds, waiting for a router that went away included."""
CACHE_BYTES = 64 * 10**6
"""Size of a consumer's cache of final answers by default, in bytes."""
START = "-1h"
"""Where an interval starts by default."""
PATIENCE_S = 5.0
"""How long to try to reach the router at first by default, in seconds."""

log = logging.getLogger(__name__)


class Connected:
    """A connection to the router, and the requests that are sent through it."""

    def __init__(
        self,
        site: Where | None = None,
        role: Literal["consumer", "operator"] = "consumer",
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if role not in ROLES:
            raise BadRequest(f"role is {role!r}; give one of {', '.join(ROLES)}")
        if isinstance(site, Access) and role != "consumer":
            raise BadRequest(f"role is {role!r}, but an Access names its account; use find_access(site, role)")
        self.access = find_access(site, role)
        """How it reaches the router."""
        self._final = FinalAnswers(cache_bytes)
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._link: RouterThread | None = None
        self._once = threading.RLock()
        self._requests: WorkRequests
        self._unwanted: weakref.finalize[..., Any] | None = None

    @cached_property
    def _followings(self) -> Followings:
        return Followings(self._request, lambda: self._timeout_s)

    def _opening(self) -> "concurrent.futures.Future[Any]":
        def opened() -> Deferred[Any] | None:
            link = self._link = RouterThread(self.access, the_reactor())
            self._requests = WorkRequests(link, self._final)
            link.open()
            # A consumer that nobody closes leaves the router when it is collected, or when the program ends.
            self._unwanted = weakref.finalize(self, _leave, link)
            if not self._patience_s:
                return None
            waiting = link.session()

            def out_of_time(result: Any, _timeout: float) -> Any:
                raise link.trouble or TimedOut(
                    f"the router at {self.access.url} did not let us in within {self._patience_s:g} s"
                )

            waiting.addTimeout(self._patience_s, the_reactor(), out_of_time)
            return waiting

        return in_reactor(opened)

    def _closing(self) -> "concurrent.futures.Future[Any]":
        def closed() -> Deferred[None] | None:
            if self._link is None:
                return None
            if self._unwanted is not None:
                self._unwanted.detach()
            self._requests.end()
            return self._link.close()

        return in_reactor(closed)

    def _request(self, name: str, *args: Any, **options: Any) -> "concurrent.futures.Future[Any]":
        if self._link is None:
            raise NotOpen("this consumer is not open; use it in a block: async with Consumer(...) as c")
        requests = self._requests
        return in_reactor(lambda: getattr(requests, name)(*args, **options))

    def _request_data(  # the parameters are those of `Consumer.data`
        self,
        node: str,
        fields: str | Sequence[str],
        start: Time,
        end: Time,
        min_stride: Span | None,
        downsample: Method | None,
        max_points: int | None,
        progress: Progress | None,
        *,
        exact: bool,
    ) -> "concurrent.futures.Future[Any]":
        stride = None if min_stride is None else as_span(min_stride, "min_stride") if min_stride else 0.0
        method = downsample or ("minmax" if stride or max_points else "first")
        bounds = as_start(start), as_time(end, "end")
        question = (node, fields, *bounds, stride, method, max_points)
        return self._request("data", *question, progress, self._timeout_s, exact=exact)

    def _request_fields(self, node: str, start: Time, end: Time) -> "concurrent.futures.Future[Any]":
        return self._request("fields", node, as_start(start), as_time(end, "end"), self._timeout_s)

    def ask_to_end(self, node: str, number: str, *, hard: bool = False) -> "concurrent.futures.Future[Any]":
        """Ask a run of an operation to end; see `RunHandle.cancel`.

        Parameters
        ----------
        node, number : str
            The node, and the id of the run.
        hard : bool

        Returns
        -------
        concurrent.futures.Future
            Of the run, as its node describes it.

        Raises
        ------
        NotOpen
            If this consumer is not open. The future raises the errors of `Consumer.command`.

        Examples
        --------
        >>> c.ask_to_end("motor", run.id).result(10.0)["state"]  # doctest: +SKIP
        'cancelling'
        """
        arguments = {"id": number, "hard": hard}
        return self._request("command", self._timeout_s, node, "cancel_operation", arguments)

    @property
    def timeout_s(self) -> float:
        """How long an answer may take, in seconds; what is set holds for the requests that follow."""
        return self._timeout_s

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        self._timeout_s = seconds

    @property
    def trouble(self) -> SisockError | None:
        """The error while the router is unreachable; None while it is reachable."""
        if self._link is None:
            return NotOpen("this consumer is not open")
        if self._link.is_joined:
            return None
        return self._link.trouble or NoRouter(f"the router at {self.access.url} has not let us in yet")

    def counters(self) -> dict[str, int]:
        """Return counters of the connection.

        ``joins`` to the router, the first included, and ``late_answers`` to calls that had ended, which were dropped.
        """
        return self._link.counters.as_dict() if self._link else {}

    def suspend(self, node: str | None, reason: str) -> None:
        """Have all calls to a node but those of its status fail at once as `TimedOut`, until `resume`.

        Parameters
        ----------
        node : str or None
            None for all nodes, such as while the router does not answer.
        reason : str
        """
        self._requests.suspended[node] = reason

    def resume(self, node: str | None) -> None:
        """End the suspension of a node; with None, that of all nodes together."""
        self._requests.suspended.pop(node, None)

    def cache_info(self) -> dict[str, int]:
        """Return how often an answer was known already (``hits``) or not (``misses``), and how much is kept."""
        return self._final.info()


def _leave(link: RouterThread) -> None:
    if the_reactor().running:
        the_reactor().callFromThread(link.close)


def shortened(error: SisockError) -> SisockError:
    """Return an error without the frames of the reactor and of its causes, which its `origin` keeps."""
    log.debug("%s", error.message, exc_info=error)
    error.origin = TracebackException.from_exception(error)
    return error.with_traceback(None)


_Method = TypeVar("_Method", bound=Callable[..., Any])


def documented_as(method: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Give a method the documentation of its counterpart for asyncio."""

    def documented(ours: _Method) -> _Method:
        text = re.sub(r"\b(await|async) ", "", method.__doc__ or "")
        ours.__doc__ = text.replace("RunHandle", "BlockingRunHandle")
        return ours

    return documented
