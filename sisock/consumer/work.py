"""The requests of a consumer that have nodes do something: queries, commands, and the runs of operations."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, inlineCallbacks

from sisock.consumer.follower import RunFollower
from sisock.consumer.requests import Requests, translated
from sisock.errors import (
    BadAnswer,
    BadRequest,
    NodeLeft,
    NoRouter,
    NoSuchProcedure,
    NoSuchRun,
    NotOpen,
    TimedOut,
)
from sisock.patterns import did_you_mean
from sisock.procedure import RESERVED, TAKEN
from sisock.serializable import to_serializable

_NONE: Mapping[str, Any] = MappingProxyType({})
_UNKNOWN = (ApplicationError.NO_SUCH_PROCEDURE, ApplicationError.INVALID_URI)


class WorkRequests(Requests):
    """The requests of a consumer, those included that have nodes do something; in the reactor's thread."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kinds: dict[str, dict[str, str | None]] = {}  # of procedures by name, by node

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def procedures(self, node: str, timeout_s: float) -> Any:
        """Request the procedures of a node; none if it does not list any."""
        listed = yield self.ask(timeout_s, node, "procedures")
        if not isinstance(listed, list) or not all(isinstance(each, dict) and _is_procedure(each) for each in listed):
            raise BadAnswer(f"procedures of node {node!r} answered something else than a list of descriptions")
        self._kinds[node] = {each["name"]: each.get("kind") for each in listed}
        return listed

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def call(self, timeout_s: float, node: str, procedure: str, arguments: Mapping[str, Any]) -> Any:
        """Call a procedure of a node, of any kind; the error of an unknown one lists those that the node has."""
        try:
            return (yield self._send(timeout_s, node, "control", procedure, arguments))
        except _Unknown as error:
            known = [each["name"] for each in (yield self.procedures(node, timeout_s))]
            has = ", ".join(known) or "none"
            raise BadRequest(f"node {node!r} has no control procedure {procedure!r}; it has: {has}") from error

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def query(self, timeout_s: float, node: str, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a query of a node."""
        try:
            return (yield self._send(timeout_s, node, "query", name, arguments))
        except _Unknown as error:
            yield self.procedures(node, timeout_s)
            self._refuse("query", node, name, error)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def command(self, timeout_s: float, node: str, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a command of a node, or any procedure of one that lists no kinds."""
        # Calls of an operation would start a run, and cancel it after the time-out.
        if name not in RESERVED and name not in self._kinds.get(node, {}):
            yield self.procedures(node, timeout_s)
        if self._kinds.get(node, {}).get(name) in ("query", "operation"):
            self._refuse("command", node, name)
        try:
            return (yield self._send(timeout_s, node, "control", name, arguments))
        except _Unknown as error:
            yield self.procedures(node, timeout_s)
            self._refuse("command", node, name, error)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def start(self, timeout_s: float, node: str, name: str, arguments: Mapping[str, Any]) -> Any:
        """Start a run of an operation, and follow it."""
        yield self.procedures(node, timeout_s)
        if self._kinds[node].get(name) != "operation":
            self._refuse("operation", node, name)
        try:
            number = yield self._send(timeout_s, node, "control", name, {**arguments, "_wait": False})
        except _Unknown as error:  # withdrawn meanwhile
            yield self.procedures(node, timeout_s)
            self._refuse("operation", node, name, error)
        except (NoRouter, NodeLeft, TimedOut) as error:
            if isinstance(error, NotOpen):
                raise
            raise type(error)(f"{error.message}; it may have been started: `operations` lists the runs") from error
        follower = self._follower(timeout_s, node, str(number), name)
        follower.open()
        return follower

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def follow(self, timeout_s: float, node: str, number: str, more: Mapping[str, Any] = _NONE) -> Any:
        """Follow a run by its id."""
        follower = self._follower(timeout_s, node, number, "", more)
        try:
            yield follower.fetch()
        except ApplicationError as error:
            if error.error not in _UNKNOWN:
                raise translated(error) from error
            yield self.procedures(node, timeout_s)
            self._refuse("query", node, "operation", error)
        follower.open()
        return follower

    def _follower(
        self, timeout_s: float, node: str, number: str, name: str, more: Mapping[str, Any] = _NONE
    ) -> RunFollower:
        @inlineCallbacks  # type: ignore[untyped-decorator]
        def ask(after: int) -> Any:
            self.check_suspended(node)
            arguments = {"id": number, "after": after, **more}
            try:
                return (yield self._link.call(timeout_s, f"consumer.{node}.query.operation", arguments=arguments))
            except NoSuchRun as error:
                raise NoSuchRun(
                    f"node {node!r} knows no run {number!r}; it knows the newest 1000, and without a history on disk "
                    "those since its start; `operations` lists them"
                ) from error

        return RunFollower(self._link, node, number, name, ask)

    def _send(self, timeout_s: float, node: str, way: str, name: str, arguments: Mapping[str, Any]) -> "Deferred[Any]":
        """Call a procedure below ``control``, or a query; fails with _Unknown where the router knows none such."""
        if taken := arguments.keys() & TAKEN:
            raise BadRequest(f"an argument cannot be called {min(taken)!r}, which WAMP's library keeps")
        try:
            # The router ends a session that sends keys of other types than text.
            plain = to_serializable(dict(arguments))
        except RecursionError as error:
            raise BadRequest(f"an argument of {name} contains itself, or is nested too deeply") from error
        self.check_suspended(node)
        uri = f"control.{node}.{name}" if way == "control" else f"consumer.{node}.query.{name}"

        def failed(failure: Any) -> NoReturn:
            failure.trap(ApplicationError)
            error = failure.value
            raise (_Unknown() if error.error in _UNKNOWN else translated(error)) from error

        return self._link.call(timeout_s, uri, arguments=plain).addErrback(failed)

    def _refuse(self, kind: str, node: str, name: str, cause: Exception | None = None) -> NoReturn:
        """Raise the error of a procedure that a node does not offer as that kind, by what it has listed."""
        listed = self._kinds[node]
        found = listed.get(name)
        if found not in (None, kind):
            raise BadRequest(f"{name!r} of node {node!r} is {_a(found)}; call it by `{found}`") from cause
        if name in RESERVED:
            raise NoSuchProcedure(f"node {node!r} has no {kind} {name!r}; it is of an older version") from cause
        if listed and kind != "command" and not any(listed.values()):
            raise NoSuchProcedure(
                f"node {node!r} offers no {kind} {name!r}; it is of an older version, which has commands only: "
                f"{', '.join(listed)}"
            ) from cause
        offered = [other for other, its in listed.items() if its in (None, kind)]
        hint = did_you_mean(name, listed) or f"it offers: {', '.join(offered) or 'none'}"
        raise NoSuchProcedure(f"node {node!r} offers no {kind} {name!r}; {hint}") from cause


class _Unknown(Exception):
    """The router knows no such procedure."""


def _a(kind: str | None) -> str:
    return f"an {kind}" if kind == "operation" else f"a {kind}"


def _is_procedure(each: Mapping[str, Any]) -> bool:
    texts = isinstance(each.get("name"), str) and isinstance(each.get("description", ""), str)
    return texts and isinstance(each.get("parameters"), dict) and isinstance(each.get("kind"), str | None)
