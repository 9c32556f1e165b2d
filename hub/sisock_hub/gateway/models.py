"""What the HTTP API answers, as its OpenAPI description says."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from sisock.outage import State as HealthState
from sisock_hub.gateway.watch import Kind, State


class Wrong(BaseModel):
    """What every error is answered with."""

    error: str
    """Its name, of those in the wire contract."""
    message: str
    """What is wrong, and what to do."""


WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Wrong, "description": what}
    for status, what in (
        (400, "Something in the request is wrong"),
        (401, "Say who you are"),
        (403, "You may not"),
        (404, "There is no such node or field"),
        (406, "Nothing that is accepted can be given"),
        (413, "That is too much at once"),
        (422, "A parameter is wrong or missing"),
        (502, "The node failed"),
        (503, "The router, the hub or the node cannot answer at the moment"),
        (504, "The node did not answer in time"),
    )
}
"""How errors are answered, by status."""


class HealthAnswer(BaseModel):
    """A node's own health."""

    state: HealthState
    since: float | None = Field(description="Since when, UNIX seconds.")
    error: str | None = Field(description="Why it is not ok.")


class NodeAnswer(BaseModel):
    """A data node, and how it does."""

    name: str
    description: str | None
    state: State
    since: float = Field(description="Since when it is in that state, UNIX seconds.")
    reason: str | None = Field(description="Why it is stale.")
    newest: float | None = Field(description="Time of its newest sample, UNIX seconds; null where it reports none.")
    age: float | None = Field(description="Seconds since then, by the node's clock; null where it is ahead of that.")
    ahead: float | None = Field(description="Seconds by which its newest sample is ahead of the node's clock.")
    health: HealthAnswer | None = Field(description="Its own health; null where it reports none.")


class FieldAnswer(BaseModel):
    """A field, as its node describes it."""

    name: str
    type: Literal["number", "string", "bool"]
    units: str | None
    description: str | None
    timeline: str
    interval: float | None = Field(description="Mean seconds between readings; null if aperiodic.")
    epochs: list["EpochAnswer"] = Field(
        description="Where its units or type changed in the interval: what it was, each from its start on."
    )


class HitAnswer(BaseModel):
    """A node that was found, or one of its fields."""

    node: str
    field: FieldAnswer | None = Field(description="Null where the node itself is meant.")


class SearchAnswer(BaseModel):
    """What was found."""

    hits: list[HitAnswer] = Field(description="The best first: words in names before words in descriptions.")
    total: int = Field(description="How many there are, also beyond the limit.")
    warnings: list[str] = Field(description="Nodes whose fields are unknown at present, and why.")


class ThinnedAnswer(BaseModel):
    """How samples were thinned out."""

    method: str
    stride: float = Field(description="Seconds.")
    first: list[str] = Field(description="Fields that are no numbers, of which each sample is one that was there.")


class EpochAnswer(BaseModel):
    """Units and type that a field has from a time on."""

    start: float = Field(alias="from", description="UNIX seconds.")
    type: Literal["number", "string", "bool"]
    units: str | None


class TimelineAnswer(BaseModel):
    """Samples of one timeline."""

    t: list[float] = Field(description="UNIX seconds, ascending.")
    data: dict[str, list[float | str | bool | None]] = Field(description="The values by field; NaN is null.")
    finalized_until: float | None = Field(description="What lies before will not change; null when all is final.")
    gaps: list[tuple[float, float]] = Field(description="Spans in which the source was silent or lossy.")
    dropped: int = Field(description="Samples known to be lost in this interval, to the minute.")
    late: int = Field(description="Samples that came too late to be stored, to the minute.")
    reset: int = Field(description="Rises when the watermark is set back: answers with a smaller number are not final.")
    downsample: ThinnedAnswer | None
    epochs: dict[str, list[EpochAnswer]] = Field(
        description="Of fields whose units or type changed in the interval: what they were, each from its start on."
    )


class DataAnswer(BaseModel):
    """Samples of a node."""

    timelines: dict[str, TimelineAnswer]
    empty: list[str] = Field(description="Fields that are unknown or have no samples there.")
    fields: dict[str, FieldAnswer]


class SeveralAnswer(BaseModel):
    """Samples of several nodes."""

    nodes: dict[str, DataAnswer]
    errors: dict[str, Wrong] = Field(description="Why nodes did not answer.")


class EventAnswer(BaseModel):
    """Something that happened to a node."""

    t: float = Field(description="UNIX seconds.")
    node: str
    kind: Kind
    text: str


class ProcedureAnswer(BaseModel):
    """What a node can be told to do."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = Field(description="A JSON schema of the arguments.")
