"""The hub: nodes announce themselves to it, consumers ask it who is there."""

import logging
from typing import Any

from autobahn.wamp.types import CallDetails, ComponentConfig, RegisterOptions, SessionDetails
from twisted.internet.defer import inlineCallbacks

from sisock.base import Session
from sisock.errors import BadRequest, NameTaken, NotAllowed
from sisock_hub.registry import Entry, Registry

log = logging.getLogger(__name__)


class Hub(Session):
    """The session of the hub. Its registry lives as long as it: when the router dies, so does all that was there."""

    def __init__(self, config: ComponentConfig | None = None) -> None:
        super().__init__(config)
        self.registry = Registry()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def onJoin(self, details: SessionDetails) -> Any:
        """Register the hub's procedures, then ask all nodes to add themselves."""
        # First, so that no session can leave unseen after its node was added.
        yield self.subscribe(self._on_leave, "wamp.session.on_leave")
        options = RegisterOptions(details_arg="details")
        try:
            yield self.register(self.answered("add", self._add), self.uri("data_node.add"), options)
            yield self.register(self.answered("subtract", self._subtract), self.uri("data_node.subtract"), options)
            yield self.register(self.answered("get_data_node", self._list), self.uri("consumer.get_data_node"))
        except Exception as error:
            if getattr(error, "error", None) != "wamp.error.procedure_already_exists":
                raise
            self.give_up(NameTaken(f"another hub has joined {self.access.realm!r} already; a site has one"))
            return
        self.publish(self.uri("hub.started"))
        log.info("the hub is ready")

    def _add(self, name: Any, description: Any = None, session_id: Any = None, *, details: CallDetails) -> bool:
        self._check_caller(session_id, details)
        new = not (isinstance(name, str) and self.registry.has(name))
        added = self.registry.add(name, description, session_id)
        if not added:
            log.warning("node %r is refused: the name is taken", name)
        elif new:
            log.info("node %s is here", name)
            self._tell("data_node_added", {"name": name, "description": description})
        return added

    def _subtract(self, name: Any, session_id: Any = None, *, details: CallDetails) -> None:
        self._check_caller(session_id, details)
        if not isinstance(name, str):
            raise BadRequest(f"{name!r} is no name of a node")
        entry = self.registry.subtract(name, session_id)
        if entry is None:
            raise NotAllowed(f"session {session_id} serves no node {name!r}")
        self._gone(entry)

    def _list(self) -> list[dict[str, str | None]]:
        return [entry.as_dict() for entry in self.registry.list()]

    def _on_leave(self, session_id: int, *_more: Any) -> None:
        for entry in self.registry.leave(session_id):
            self._gone(entry)

    def _gone(self, entry: Entry) -> None:
        log.info("node %s has left", entry.name)
        self._tell("data_node_subtracted", entry.as_dict())

    def _tell(self, event: str, node: dict[str, Any]) -> None:
        self.publish(self.uri(f"consumer.{event}"), node)

    def _check_caller(self, session_id: Any, details: CallDetails) -> None:
        if details.caller is None:
            raise NotAllowed(
                "the router does not disclose who calls; take the configuration that `sisock router` makes"
            )
        if session_id != details.caller:
            raise NotAllowed(f"session {details.caller} cannot speak for session {session_id!r}; give your own id")
