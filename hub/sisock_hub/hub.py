"""The hub: nodes announce themselves to it, consumers get the list of nodes from it."""

import logging
from importlib import import_module
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallDetails, ComponentConfig, RegisterOptions, SessionDetails
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from sisock.errors import BadRequest, NameTaken, NotAllowed
from sisock.wamp.probe import probe_for_hub
from sisock.wamp.session import Session
from sisock_hub.registry import Entry, Registry

# Seconds within which a node must answer to keep its name when another claims it.
_PROBE_S = 5.0

log = logging.getLogger(__name__)


class Hub(Session):
    """The session of the hub. Its registry is lost with the session, as the sessions of all nodes are."""

    def __init__(self, config: ComponentConfig | None = None, *, reactor: Any = None) -> None:
        super().__init__(config)
        self.registry = Registry()
        self._reactor = reactor or import_module("twisted.internet.reactor")

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def onJoin(self, details: SessionDetails) -> Any:
        """Register the hub's procedures, then have all nodes add themselves."""
        yield probe_for_hub(self)
        # First, so that no session leaves unnoticed after its node was added.
        yield self.subscribe(self._on_leave, "wamp.session.on_leave")
        options = RegisterOptions(details_arg="details")
        try:
            yield self.register(self.wrap_procedure("add", self._add), self.uri("data_node.add"), options)
            yield self.register(self.wrap_procedure("claim", self._claim), self.uri("data_node.claim"), options)
            yield self.register(
                self.wrap_procedure("subtract", self._subtract), self.uri("data_node.subtract"), options
            )
            yield self.register(self.wrap_procedure("get_data_node", self._list), self.uri("consumer.get_data_node"))
            departed = self.wrap_procedure("get_departed_data_node", self.registry.departed)
            yield self.register(departed, self.uri("consumer.get_departed_data_node"))
        except Exception as error:
            if getattr(error, "error", None) != "wamp.error.procedure_already_exists":
                raise
            self.fail_permanently(NameTaken(f"another hub has already joined {self.access.realm!r}; a site has one"))
            return
        self.publish(self.uri("hub.started"))
        log.info("the hub is ready")

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _add(
        self, name: Any, description: Any = None, session_id: Any = None, instance: Any = None, *, details: CallDetails
    ) -> Any:
        self._check_caller(session_id, details)
        claimant = _claimant(instance, details)
        held = self.registry.get(name) if isinstance(name, str) else None
        if held is not None and held.session != session_id:
            held_by = held.session
            freed = yield self._free(held, claimant)
            held = None
            if not freed:
                log.warning("node %r is refused: session %d has the name and answers", name, held_by)
                return False
        new = held is None
        # Another claimant may have been added meanwhile.
        added = self.registry.add(name, description, session_id, claimant)
        if added and new:
            log.info("node %s has arrived", name)
            self._notify("data_node_added", {"name": name, "description": description})
        return added

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _claim(self, name: Any, session_id: Any = None, instance: Any = None, *, details: CallDetails) -> Any:
        """Return whether a name is free for a session; the session of a dead node with that name is ended first."""
        self._check_caller(session_id, details)
        held = self.registry.get(name) if isinstance(name, str) else None
        if held is None or held.session == session_id:
            return held is not None
        return (yield self._free(held, _claimant(instance, details)))

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _free(self, held: Entry, claimant: tuple[str, str] | None) -> Any:
        """End the session that has a name, if it is the claimant's or does not answer; return whether it was ended."""
        same = claimant is not None and claimant == held.instance
        if not same and (yield self._answers(held)):
            return False
        why = "the same node has joined again" if same else f"it does not answer within {_PROBE_S:g} s"
        log.warning("the session of node %s is ended: %s", held.name, why)
        for procedure in (self.uri("router.end_session"), "wamp.session.kill"):
            try:
                yield self.call(procedure, held.session)
                break
            except ApplicationError as error:
                if error.error == "wamp.error.no_such_session":
                    break
                failed = error
        else:
            log.error("the session of node %s cannot be ended: %s", held.name, failed)
            return False
        self._on_leave(held.session)
        return True

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _answers(self, held: Entry) -> Any:
        """Return whether the session of a node answers a call in time; an error is an answer."""
        for procedure, arguments in (("status", ()), ("get_fields", (-1.0, 0.0))):
            # The call is not cancelled: the router answers it again when the session ends, which autobahn takes for a
            # violation of the protocol.
            answered: Deferred[Any] = Deferred()
            late = self._reactor.callLater(_PROBE_S, answered.callback, None)
            self.call(self.uri(f"consumer.{held.name}.{procedure}"), *arguments).addBoth(
                lambda result, answered=answered: None if answered.called else answered.callback((result,))
            )
            outcome = yield answered
            if outcome is None:
                return False
            late.cancel()
            error = outcome[0].value if isinstance(outcome[0], Failure) else None
            if getattr(error, "error", None) != ApplicationError.NO_SUCH_PROCEDURE:
                return getattr(error, "error", None) != ApplicationError.CANCELED  # it has left
        return True  # it has no procedure to call; it keeps its name as long as it is joined

    def _subtract(self, name: Any, session_id: Any = None, *, details: CallDetails) -> None:
        self._check_caller(session_id, details)
        if not isinstance(name, str):
            raise BadRequest(f"{name!r} is not a valid name of a node")
        entry = self.registry.subtract(name, session_id)
        if entry is None:
            raise NotAllowed(f"session {session_id} serves no node {name!r}")
        self._left(entry)

    def _list(self) -> list[dict[str, str | None]]:
        return [entry.as_dict() for entry in self.registry.list()]

    def _on_leave(self, session_id: int, *_more: Any) -> None:
        for entry in self.registry.leave(session_id):
            self._left(entry)

    def _left(self, entry: Entry) -> None:
        log.info("node %s has left", entry.name)
        self._notify("data_node_subtracted", entry.as_dict())

    def _notify(self, event: str, node: dict[str, Any]) -> None:
        self.publish(self.uri(f"consumer.{event}"), node)

    def _check_caller(self, session_id: Any, details: CallDetails) -> None:
        if details.caller is None:
            raise NotAllowed("the router does not disclose callers; use the configuration of `sisock router`")
        if session_id != details.caller:
            raise NotAllowed(f"session {details.caller} cannot act for session {session_id!r}; give your own id")


def _claimant(instance: Any, details: CallDetails) -> tuple[str, str] | None:
    return (str(details.caller_authid), instance) if isinstance(instance, str) and instance else None
