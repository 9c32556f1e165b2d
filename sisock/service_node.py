"""The node of a service, and its session."""

import logging
from collections.abc import Callable
from typing import Any

from autobahn.wamp.exception import TransportLost
from autobahn.wamp.types import CloseDetails, ComponentConfig, SessionDetails

from sisock.base import DataNodeServer
from sisock.context import NodeContext
from sisock.errors import BadRequest, NoSuchField
from sisock.metrics import Counters
from sisock.nodetype import RESERVED_COMPONENTS, check_node_name
from sisock.outage import Health, worst
from sisock.process import earlier_runs
from sisock.serializable import to_serializable
from sisock.service import Service
from sisock.wamp.outbox import publish

log = logging.getLogger(__name__)

Publish = Callable[[str, Any], object]


class ServiceNode:
    """A service as a node: it belongs to the process, and outlives the session.

    Parameters
    ----------
    service : Service
    context : NodeContext
    description : str, optional
        By default the first line of the service's documentation.

    Raises
    ------
    BadRequest
        If a topic of `Service.publishes` cannot be part of a URI, or belongs to every node.
    """

    def __init__(self, service: Service, context: NodeContext, description: str | None = None) -> None:
        check_node_name(context.name)
        self.name, self.clock, self.work = context.name, context.clock, context.work
        self.description = description or (type(service).__doc__ or "").strip().partition("\n")[0] or None
        self.counters = Counters("published", "unpublished")
        fixed = [topic for topic in service.publishes if not topic.endswith(".*")]
        self.topics = {topic: _uri(context.name, topic) for topic in fixed}
        self._roots = tuple(topic[:-1] for topic in service.publishes if topic not in self.topics)
        for root in self._roots:
            _uri(context.name, root[:-1])
        self.service, self._context = service, context
        self._publish: Publish | None = None
        self._since: float | None = None
        context.belongings.publish = self.publish

    def start(self) -> None:
        """Start the service, and offer its procedures."""
        self.work.events.start()
        self.service.start(self._context)
        for procedure in self.service.offers:
            self._context.offer(procedure)
        self._since = self.clock.now()
        self.work.report("node", self.name, f"node {self.name} has started", **dict(earlier_runs()))

    def stop(self) -> None:
        """Stop the service, its runs, its children and its consumer."""
        try:
            self.service.stop()
        finally:
            self.work.close()
            self._context.belongings.close()
            self.work.report("node", self.name, f"node {self.name} has stopped")
            self.work.close_tables()

    def publish(self, topic: str, value: Any) -> None:
        """Publish a value; it is dropped and counted while no router is joined.

        Raises
        ------
        BadRequest
            If the topic is not one of `Service.publishes`.
        """
        if topic not in self.topics:
            if self._roots and topic.startswith(self._roots):
                self.topics[topic] = _uri(self.name, topic)
                self.publish(topic, value)
                return
            known = ", ".join(self.service.publishes) or "none"
            raise BadRequest(f"topic {topic!r} is not in `publishes` of {type(self.service).__name__}: {known}")
        if self._publish is None:
            self.counters.add("unpublished")
        else:
            self._publish(self.topics[topic], value)

    def join(self, publish: Publish | None) -> None:
        """Publish through a session from now on, or through none."""
        self._publish = publish

    def health(self) -> Health:
        """Return the health that the service reports, and the outages of its procedures."""
        if self._since is None:
            return Health("starting", self.clock.now())
        try:
            own = self.service.status()
        except Exception as error:  # noqa: BLE001 - its own code; the node works on
            own = Health("degraded", self.clock.now(), f"its status cannot be read: {type(error).__name__}: {error}")
        return worst([self.work.outages.health(), *([own] if own is not None else [])])

    def status(self) -> dict[str, Any]:
        """Return since when the service runs, its health, and the counters."""
        return {
            "since": self._since,
            "health": self.health().as_dict(),
            **({"process": runs} if (runs := dict(earlier_runs())) else {}),
            "counters": self.counters.as_dict(),
            **self.work.status(),
        }


def _uri(node: str, topic: str) -> str:
    try:
        check_node_name(topic)
    except BadRequest as error:
        raise BadRequest(f"{topic!r} in `publishes` cannot be part of a topic's URI") from error
    if topic.partition(".")[0] in RESERVED_COMPONENTS:
        raise BadRequest(f"topic {topic!r} in `publishes` belongs to every node; choose another")
    return f"consumer.{node}.{topic}"


class ServiceServer(DataNodeServer):
    """The session of a `ServiceNode`: it has no fields, offers the procedures and publishes while it is joined."""

    def __init__(self, node: ServiceNode, config: ComponentConfig | None = None) -> None:
        super().__init__(config)
        self.node = node
        self.name, self.description, self._work = node.name, node.description, node.work
        self._clock = node.clock

    def after_onJoin(self, details: SessionDetails) -> Any:
        """Publish from now on."""
        for topic in tuple(self.node.topics.values()):
            self._interest.add(self.uri(topic))
        self.node.join(self._publish_from_thread)
        return self._interest.open()

    def onLeave(self, details: CloseDetails) -> None:
        """Publish nothing more."""
        self.node.join(None)
        super().onLeave(details)

    def _publish_from_thread(self, topic: str, value: Any) -> None:
        from twisted.internet import reactor

        content = to_serializable(value)
        reactor.callFromThread(self._publish, self.uri(topic), content)

    def _publish(self, topic: str, value: Any) -> None:
        self._interest.add(topic)  # where it is the first value there
        if not self._interest.wants(topic):
            return
        error = publish(self, topic, value)
        self.node.counters.add("published" if error is None else "unpublished")
        if error is not None and not isinstance(error, TransportLost):
            log.error("a value on %s cannot be published: %s", topic, error)

    def get_fields_blocking(self, start: float, end: float) -> Any:
        """Return no fields and no timelines."""
        return {}, {}

    def get_data_blocking(self, field: list[str], start: float, end: float, min_stride: float | None = None) -> Any:
        """Return no samples of no fields."""
        if field:
            raise NoSuchField(f"{self.name} is a service; it has no fields, and so not {field[0]!r}")
        return {"data": {}, "timeline": {}}

    def status(self) -> dict[str, Any]:
        """Return the health and the counters of the node and of the session."""
        status = self.node.status()
        counters = {**status["counters"], **self.counters.as_dict()}
        return {"name": self.name, "description": self.description, **status, "counters": counters}
