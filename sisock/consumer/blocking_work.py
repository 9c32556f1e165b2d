"""Queries, commands and operations, for notebooks and scripts."""

import concurrent.futures
import sys
from collections.abc import Iterator
from typing import Any

from sisock.consumer.asynchronous import Consumer
from sisock.consumer.connection import Connected, documented_as, shortened
from sisock.consumer.events import GATHER_S, EventReading
from sisock.consumer.keyvalue import TreeReading, TreeUpdate
from sisock.consumer.lists import AlarmList, RunList
from sisock.consumer.runs import BlockingRunHandle
from sisock.consumer.signal import Signal
from sisock.errors import NotOpen, SisockError
from sisock.event import EventPage, Severity
from sisock.times import wait_until


class BlockingWork(Connected):
    """The methods of `BlockingConsumer` that have nodes do something."""

    show_progress = True

    def _result(self, request: "concurrent.futures.Future[Any]") -> Any:
        """Return the result of a request; its error comes without the frames in which it was raised."""
        __tracebackhide__ = True
        try:
            return request.result()
        except SisockError as error:
            raise shortened(error) from None
        except KeyboardInterrupt:
            request.cancel()
            raise

    @documented_as(Consumer.procedures)
    def procedures(self, node: str) -> list[dict[str, Any]]:
        """See `Consumer.procedures`."""
        __tracebackhide__ = True
        return self._result(self._request("procedures", node, self._timeout_s))  # type: ignore[no-any-return]

    @documented_as(Consumer.call)
    def call(self, node: str, procedure: str, /, **arguments: Any) -> Any:
        """See `Consumer.call`."""
        __tracebackhide__ = True
        return self._result(self._request("call", self._timeout_s, node, procedure, arguments))

    @documented_as(Consumer.query)
    def query(self, node: str, name: str, /, **arguments: Any) -> Any:
        """See `Consumer.query`."""
        __tracebackhide__ = True
        return self._result(self._request("query", self._timeout_s, node, name, arguments))

    @documented_as(Consumer.command)
    def command(self, node: str, name: str, /, **arguments: Any) -> Any:
        """See `Consumer.command`."""
        __tracebackhide__ = True
        return self._result(self._request("command", self._timeout_s, node, name, arguments))

    @documented_as(Consumer.operation)
    def operation(self, node: str, name: str, /, **arguments: Any) -> BlockingRunHandle:
        """See `Consumer.operation`."""
        __tracebackhide__ = True
        return BlockingRunHandle(self, self._result(self._request("start", self._timeout_s, node, name, arguments)))

    @documented_as(Consumer.run)
    def run(self, node: str, id: str) -> BlockingRunHandle:
        """See `Consumer.run`."""
        __tracebackhide__ = True
        return BlockingRunHandle(self, self._result(self._request("follow", self._timeout_s, node, id)))

    @documented_as(Consumer.operations)
    def operations(self, node: str, active: bool | None = None, limit: int = 100) -> RunList:
        """See `Consumer.operations`."""
        __tracebackhide__ = True
        which = {"active": active, "limit": limit}
        return RunList(self._result(self._request("query", self._timeout_s, node, "operations", which)))

    @documented_as(Consumer.alarms)
    def alarms(self, node: str, name: str = "*") -> AlarmList:
        """See `Consumer.alarms`."""
        __tracebackhide__ = True
        return AlarmList(self._result(self._request("query", self._timeout_s, node, "alarms", {"name": name})))

    @documented_as(Consumer.follow_events)
    def follow_events(
        self,
        node: str,
        *,
        severity: Severity | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: int | None = None,
    ) -> Iterator[EventPage]:
        """See `Consumer.follow_events`."""
        __tracebackhide__ = True
        which = {"severity": severity, "kind": kind, "subject": subject}
        yield from self._following(node, EventReading(node, which, after))

    @documented_as(Consumer.watch)
    def watch(self, node: str, path: str = "", *, after: int | None = None) -> Iterator[TreeUpdate]:
        """See `Consumer.watch`."""
        __tracebackhide__ = True
        yield from self._following(node, TreeReading(node, path, after))

    def _following(self, node: str, reading: EventReading) -> Iterator[Any]:
        """Yield the pages of a reading, without end."""
        __tracebackhide__ = True
        signal: Signal = self._result(self._request("signal", reading.topics, self._timeout_s))
        try:
            while True:
                count = signal.count
                try:
                    answer = self._result(
                        self._request("query", self._timeout_s, node, reading.query, reading.request())
                    )
                    if page := reading.answered(answer):
                        yield page
                except NotOpen:
                    return
                except SisockError as error:
                    reading.failed(error)
                if reading.wait_s:
                    wait_until(lambda: signal.count != count, reading.wait_s, every_s=GATHER_S)  # noqa: B023 - at once
        finally:
            if not sys.is_finalizing():
                signal.close()
