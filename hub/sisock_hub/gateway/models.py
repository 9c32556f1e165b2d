"""The answers of the HTTP API, for its OpenAPI description."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from sisock.outage import State as HealthState
from sisock_hub.gateway.watch import Kind, State


class ErrorAnswer(BaseModel):
    """The body of every error."""

    error: str
    """Name of the error, see the wire contract."""
    message: str
    """The problem, and the remedy."""


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in (
        (400, "The request is invalid"),
        (401, "A login or a token is needed"),
        (403, "The role does not allow that"),
        (404, "There is no such node or field"),
        (406, "None of the accepted formats is available"),
        (413, "The answer, or the request, is too large"),
        (422, "A parameter is invalid or missing"),
        (502, "The node failed"),
        (503, "The router, the hub or the node cannot answer at the moment"),
        (504, "The node did not answer in time"),
    )
}
"""Descriptions of the errors, by HTTP status."""


class HealthAnswer(BaseModel):
    """A node's own health."""

    state: HealthState
    since: float | None = Field(description="Start of that state, UNIX seconds.")
    error: str | None = Field(description="Error because of which it is not ok.")


class NodeAnswer(BaseModel):
    """A data node and its state."""

    name: str
    description: str | None
    state: State
    since: float = Field(description="Start of that state, UNIX seconds.")
    reason: str | None = Field(description="Reason why it is stale.")
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
        description="Where its units or type changed in the interval: each of them, with its start."
    )


class HitAnswer(BaseModel):
    """A node that was found, or one of its fields."""

    node: str
    field: FieldAnswer | None = Field(description="Null where the node itself is meant.")


class SearchAnswer(BaseModel):
    """The hits of a search."""

    hits: list[HitAnswer] = Field(description="The best first: words in names before words in descriptions.")
    total: int = Field(description="Number of all hits, also beyond the limit.")
    warnings: list[str] = Field(description="Nodes that did not list their fields, with the reason.")


class DownsampleAnswer(BaseModel):
    """The downsampling of samples."""

    method: str
    stride: float = Field(description="Seconds.")
    first: list[str] = Field(description="Fields that are not numeric, downsampled by `first`.")


class EpochAnswer(BaseModel):
    """Units and type that a field has from a time on."""

    start: float = Field(alias="from", description="UNIX seconds.")
    type: Literal["number", "string", "bool"]
    units: str | None


class TimelineAnswer(BaseModel):
    """Samples of one timeline."""

    t: list[float] = Field(description="UNIX seconds, ascending.")
    data: dict[str, list[float | str | bool | None]] = Field(description="The values by field; NaN is null.")
    finalized_until: float | None = Field(
        description="Watermark: samples before it do not change; null when all are final."
    )
    gaps: list[tuple[float, float]] = Field(description="Spans in which the source was silent or lossy.")
    dropped: int = Field(description="Samples known to be lost in this interval, to the minute.")
    late: int = Field(description="Samples that arrived too late to be stored, to the minute.")
    reset: int = Field(description="Rises when the watermark is set back: answers with a smaller number are not final.")
    downsample: DownsampleAnswer | None
    epochs: dict[str, list[EpochAnswer]] = Field(
        description="Units and types of fields where these changed in the interval, each with its start."
    )


class DataAnswer(BaseModel):
    """Samples of a node."""

    timelines: dict[str, TimelineAnswer]
    empty: list[str] = Field(description="Fields that do not exist or have no samples in the interval.")
    fields: dict[str, FieldAnswer]


class SeveralAnswer(BaseModel):
    """Samples of several nodes."""

    nodes: dict[str, DataAnswer]
    errors: dict[str, ErrorAnswer] = Field(description="Errors of nodes that did not answer.")


class EventAnswer(BaseModel):
    """An event of a node."""

    t: float = Field(description="UNIX seconds.")
    node: str
    kind: Kind
    text: str


class ProcedureAnswer(BaseModel):
    """A procedure of a node."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = Field(description="A JSON schema of the arguments.")
