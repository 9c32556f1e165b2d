"""The state of a node as a row of a table."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from sisock_hub.gateway.watch import State, Watched


class NodeRow(BaseModel):
    """The state of a node; values that it does not report are null."""

    node: str
    description: str | None
    state: State
    since: Annotated[int, Field(description="Start of that state, milliseconds since 1970.")]
    reason: Annotated[str | None, Field(description="Reason why it is stale.")]
    timelines: int | None
    newest: Annotated[int | None, Field(description="Time of its newest sample, milliseconds since 1970.")]
    age: Annotated[float | None, Field(description="Seconds since then, by the node's clock; null where it is ahead.")]
    late: Annotated[int | None, Field(description="Samples that arrived after their time was final.")]
    dropped: Annotated[int | None, Field(description="Samples known to be lost.")]
    errors: Annotated[int | None, Field(description="Answers that failed.")]
    requests: int | None


def node_row(node: Watched) -> NodeRow:
    """Return the row of a node."""
    timelines = node.status.get("timelines")
    timelines = timelines if isinstance(timelines, Mapping) else None
    newest, age = node.newest, node.age
    counters = node.status.get("counters")
    return NodeRow(
        node=node.name,
        description=node.description,
        state=node.state,
        since=round(node.since * 1000.0),
        reason=node.reason,
        timelines=None if timelines is None else len(timelines),
        newest=None if newest is None else round(newest * 1000.0),
        age=None if age is None else round(age, 3),
        late=_sum(timelines, "late"),
        dropped=_sum(timelines, "dropped"),
        errors=_counter(counters, "errors"),
        requests=_counter(counters, "requests"),
    )


def _numbers(timelines: Mapping[str, Any] | None, name: str) -> Iterator[float]:
    for about in (timelines or {}).values():
        value = about.get(name) if isinstance(about, Mapping) else None
        if isinstance(value, int | float):
            yield value


def _sum(timelines: Mapping[str, Any] | None, name: str) -> int | None:
    return None if timelines is None else int(sum(_numbers(timelines, name)))


def _counter(counters: Any, name: str) -> int | None:
    value = counters.get(name) if isinstance(counters, Mapping) else None
    return value if isinstance(value, int) else None
