"""Metrics of the gateway and of the nodes, for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sisock.consumer import Consumer
from sisock_hub.gateway.connections import Connections
from sisock_hub.gateway.feeds import Feeds
from sisock_hub.gateway.watch import Watched


def metrics(consumer: Consumer, feeds: Feeds, connections: Connections) -> APIRouter:
    """Return the route of the metrics.

    Parameters
    ----------
    consumer : Consumer
    feeds : Feeds
        With the watch of the nodes.
    connections : Connections
    """
    routes = APIRouter(tags=["health"])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(consumer, feeds, connections))

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def scraped() -> Response:
        """Counters and states of the gateway and of all nodes, as of the last probe of each, in Prometheus' format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


class _Collector:
    """Collects the metrics at each scrape."""

    def __init__(self, consumer: Consumer, feeds: Feeds, connections: Connections) -> None:
        self._consumer, self._feeds, self._watch, self._connections = consumer, feeds, feeds.watch, connections

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from self._of_gateway()
        yield from _of_nodes(self._watch.nodes)
        yield from _freshness(self._watch.nodes)
        yield from _work(self._watch.nodes)
        yield from _alarms(self._watch.nodes)

    def _of_gateway(self) -> Iterator[Metric]:
        """Yield the metrics of the gateway and of the router."""
        away = float(self._consumer.trouble is not None)
        yield GaugeMetricFamily("sisock_gateway_router_away", "Whether the router is unreachable", away)
        for name, count in self._consumer.counters().items():
            yield CounterMetricFamily(f"sisock_gateway_{name}", "Counter of the connection to the router", count)
        yield from self._of_feeds()
        connections = CounterMetricFamily("sisock_router", "Counters of the router's connections", labels=["counter"])
        _add(connections, [], _mapping(self._watch.router.get("counters")))
        router = GaugeMetricFamily("sisock_router_now", "Connections, bytes and limits of the router", labels=["about"])
        _add(router, [], {name: value for name, value in self._watch.router.items() if name != "counters"})
        yield from (connections, router)
        yield GaugeMetricFamily("sisock_gateway_connections", "Connections that are open", len(self._connections))
        yield GaugeMetricFamily(
            "sisock_gateway_unsent_bytes", "Bytes that clients have not read", self._connections.unsent
        )
        yield GaugeMetricFamily(
            "sisock_gateway_held_bytes", "Bytes that tables hold", self._connections.table_budget.held
        )
        yield GaugeMetricFamily(
            "sisock_gateway_waiting_tables", "Tables that wait for memory", self._connections.table_budget.waiting
        )
        cut = CounterMetricFamily("sisock_gateway_cut", "Connections that were refused or cut", labels=["why"])
        _add(cut, [], self._connections.counters.as_dict())
        yield cut

    def _of_feeds(self) -> Iterator[Metric]:
        """Yield the metrics of what clients follow."""
        live, runs, events = self._feeds.live, self._feeds.runs, self._feeds.events
        yield GaugeMetricFamily("sisock_gateway_live_feeds", "Feeds that are subscribed to", live.subscriptions)
        yield GaugeMetricFamily("sisock_gateway_live_readers", "Clients that follow them", live.readers)
        yield GaugeMetricFamily("sisock_gateway_followed_runs", "Runs that clients follow", len(runs))
        yield GaugeMetricFamily("sisock_gateway_followed_events", "Nodes whose events clients follow", len(events))
        missed = CounterMetricFamily(
            "sisock_gateway_missed", "Changes of runs and events that clients were too slow for", labels=["what"]
        )
        _add(missed, [], {"changes": runs.missed, "events": events.missed})
        yield missed


def _of_nodes(nodes: Sequence[Watched]) -> Iterator[Metric]:
    """Yield the states and counters of all nodes."""
    states = GaugeMetricFamily("sisock_node_state", "1 for the state that a node is in", labels=["node", "state"])
    healths = GaugeMetricFamily(
        "sisock_node_health", "1 for the state of a node's own health", labels=["node", "state"]
    )
    counters = CounterMetricFamily("sisock_node", "Counters of a node", labels=["node", "counter"])
    ages = GaugeMetricFamily(
        "sisock_timeline_newest_timestamp_seconds", "Time of the newest sample", labels=["node", "timeline"]
    )
    counts = CounterMetricFamily("sisock_timeline", "Counters of a timeline", labels=["node", "timeline", "counter"])
    sources = CounterMetricFamily(
        "sisock_source",
        "Counters of the sources of a node, and of their parts",
        labels=["node", "number", "part", "counter"],
    )
    sinks = CounterMetricFamily(
        "sisock_sink", "Counters of the sinks of a node", labels=["node", "number", "sink", "counter"]
    )
    waiting = GaugeMetricFamily(
        "sisock_sink_waiting", "Batches that wait in the spool of a sink", labels=["node", "number", "sink"]
    )
    histories = GaugeMetricFamily("sisock_history", "The history of a node", labels=["node", "about"])
    for node in nodes:
        states.add_metric([node.name, node.state], 1.0)
        if node.health is not None and node.state != "gone":
            healths.add_metric([node.name, node.health["state"]], 1.0)
        for counts_of in ("counters", "process"):
            _add(counters, [node.name], _mapping(node.status.get(counts_of)))
        _add(histories, [node.name], _mapping(node.status.get("history")))
        number = -1
        for about in _mappings(node.status.get("sources")):
            number += "part" not in about  # the parts of a source follow it
            part = str(about.get("part", ""))
            _add(sources, [node.name, str(number), part], _mapping(about.get("counters")))
        for number, about in enumerate(_mappings(node.status.get("sinks"))):
            kind = [node.name, str(number), str(about.get("sink", ""))]
            _add(sinks, kind, _mapping(about.get("counters")))
            if isinstance(about.get("waiting"), int | float):
                waiting.add_metric(kind, about["waiting"])
        for timeline, about in node.timelines.items():
            if isinstance(about.get("newest"), int | float):
                ages.add_metric([node.name, timeline], about["newest"])
            _add(counts, [node.name, timeline], {k: v for k, v in about.items() if k not in _NO_COUNTERS})
    yield from (states, healths, counters, ages, counts, sources, sinks, waiting, histories)


def _work(nodes: Sequence[Watched]) -> Iterator[Metric]:
    """Yield the runs of operations, calls of queries and commands, and events of all nodes."""
    labels = ["node", "counter"]
    runs = GaugeMetricFamily("sisock_runs", "Active runs of operations", labels=["node", "state"])
    operations = CounterMetricFamily("sisock_operations", "Counters of the runs of a node", labels=labels)
    calls = CounterMetricFamily("sisock_calls", "Counters of the queries and commands of a node", labels=labels)
    events = CounterMetricFamily("sisock_events", "Counters of the events of a node", labels=labels)
    for node in nodes:
        about = _mapping(node.status.get("operations"))
        _add(
            runs, [node.name], {state: about[state] for state in ("queued", "running", "cancelling") if state in about}
        )
        _add(operations, [node.name], _mapping(about.get("counters")))
        counts = _mapping(node.status.get("work"))
        _add(calls, [node.name], {k: v for k, v in counts.items() if k not in ("waiting", "running")})
        _add(events, [node.name], {k: v for k, v in _mapping(node.status.get("events")).items() if k != "waiting"})
    yield from (runs, operations, calls, events)


def _freshness(nodes: Sequence[Watched]) -> Iterator[Metric]:
    """Yield the freshness of all timelines."""
    labels = ["node", "timeline"]
    families = {
        key: GaugeMetricFamily(f"sisock_timeline_{n}", text, labels=labels) for key, (n, text) in _FRESHNESS.items()
    }
    stale = GaugeMetricFamily("sisock_timeline_stale", "1 for a timeline of which samples are missing", labels=labels)
    for node, timeline, about in ((each.name, *line) for each in nodes for line in each.timelines.items()):
        for key, family in families.items():
            if isinstance(about.get(key), int | float):
                family.add_metric([node, timeline], about[key])
        if "state" in about:
            stale.add_metric([node, timeline], float(about["state"] == "stale"))
    yield from (*families.values(), stale)


def _alarms(nodes: Sequence[Watched]) -> Iterator[Metric]:
    """Yield the alarms of all nodes, by severity and state, and their counters."""
    alarms = GaugeMetricFamily("sisock_alarms", "Alarms of a node", labels=["node", "severity", "state"])
    faulty = GaugeMetricFamily("sisock_alarms_not_evaluated", "Alarms whose fields do not suit them", labels=["node"])
    counters = CounterMetricFamily("sisock_alarm", "Counters of the alarms of a node", labels=["node", "counter"])
    notices = CounterMetricFamily(
        "sisock_notification", "Counters of a target of notifications", labels=["node", "target", "counter"]
    )
    waiting = GaugeMetricFamily(
        "sisock_notification_waiting", "Alarms that wait for a target", labels=["node", "target"]
    )
    for node in nodes:
        about = _mapping(node.status.get("alarms"))
        for severity, states in _mapping(about.get("by_severity")).items():
            _add(alarms, [node.name, str(severity)], _mapping(states))
        if isinstance(about.get("not_evaluated"), int):
            faulty.add_metric([node.name], about["not_evaluated"])
        _add(counters, [node.name], _mapping(about.get("counters")))
        for target in _mappings(about.get("notifications")):
            name = [node.name, str(target.get("target", ""))]
            _add(notices, name, _mapping(target.get("counters")))
            if isinstance(target.get("waiting"), int):
                waiting.add_metric(name, target["waiting"])
    yield from (alarms, faulty, counters, notices, waiting)


_FRESHNESS = {
    "age": ("age_seconds", "Age of the newest sample by the node's clock, as of the last probe"),
    "ahead": ("ahead_seconds", "How far the newest sample is ahead of the node's clock, as of the last probe"),
    "expected_every": ("expected_every_seconds", "How often a sample is expected"),
    "stale_after": ("stale_after_seconds", "After how long without a sample the timeline is stale"),
}
_NO_COUNTERS = {
    *("oldest", "newest", "finalized_until", "bytes", "segments", "sealed", "state", "silent_since"),
    *_FRESHNESS,
}


# Nodes of third parties may report anything.
def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _add(family: CounterMetricFamily | GaugeMetricFamily, labels: list[str], counts: Mapping[str, Any]) -> None:
    for name, value in counts.items():
        if isinstance(value, int | float):
            family.add_metric([*labels, name], value)
