"""The answers of the HTTP API, for its OpenAPI description."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from sisock.alarm.settings import Severity as AlarmSeverity
from sisock.alarm.state import State as AlarmState
from sisock.event import Severity
from sisock.outage import State as HealthState
from sisock.run_context import RunState
from sisock_hub.gateway.array_values import ArrayMethod
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
        (404, "There is no such node, field, procedure, run or alarm"),
        (406, "None of the accepted formats is available"),
        (409, "The node cannot do that: end by force a run in a thread"),
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


class WorkAnswer(BaseModel):
    """Numbers that change when the procedures of a node or its runs do."""

    started: float | None = Field(description="Start of the node, UNIX seconds; null where it does not report that.")
    revision: int = Field(description="Rises when a procedure is offered or withdrawn.")
    active: int = Field(description="Runs that are queued, running or cancelling.")
    runs: int | None = Field(description="Runs that were started or queued since the start of the node.")


class AlarmsAnswer(BaseModel):
    """The alarms of a node in numbers."""

    by_severity: dict[str, dict[str, int]] = Field(description="Alarms by severity and state.")
    changes: int = Field(description="Changes of their states since the start of the node.")


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
    work: WorkAnswer | None = Field(description="Changes of its procedures and runs; null where it reports none.")
    alarms: AlarmsAnswer | None = Field(description="Its alarms; null where it reports none.")


class FieldAnswer(BaseModel):
    """A field, as its node describes it."""

    name: str
    type: Literal["number", "string", "bool"]
    units: str | None
    description: str | None
    timeline: str
    interval: float | None = Field(description="Mean seconds between readings; null if aperiodic.")
    shape: list[int] = Field(description="Shape of each sample; empty unless these are arrays of numbers.")
    axis: "AxisAnswer | None" = Field(description="Coordinate of the last dimension of an array.")
    epochs: list["EpochAnswer"] = Field(
        description="Where its units or type changed in the interval: each of them, with its start."
    )


class AxisAnswer(BaseModel):
    """The coordinate along the last dimension of an array field."""

    name: str
    values: list[float]
    units: str | None


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
    first: list[str] = Field(description="Fields that are not numeric, and arrays, downsampled by `first`.")


class ReducedAnswer(BaseModel):
    """How the arrays of a field were reduced to at most `max_values` values in each dimension."""

    method: ArrayMethod = Field(description="Of each block: its maximum, or its minimum and maximum.")
    block: list[int] = Field(description="Values of a block in each dimension; the last block may be shorter.")


class EpochAnswer(BaseModel):
    """Units and type that a field has from a time on."""

    start: float = Field(alias="from", description="UNIX seconds.")
    type: Literal["number", "string", "bool"]
    units: str | None


class TimelineAnswer(BaseModel):
    """Samples of one timeline."""

    t: list[float] = Field(description="UNIX seconds, ascending.")
    data: dict[str, list[float | str | bool | list[Any] | None]] = Field(
        description="The values by field; NaN is null. Each sample of an array field is a list, or a list of lists."
    )
    reduced: dict[str, ReducedAnswer] = Field(description="Fields whose arrays have fewer values than were stored.")
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


class NodeEventAnswer(BaseModel):
    """An event that a node has reported."""

    time: float = Field(description="UNIX seconds.")
    seq: int = Field(description="Its number in the node; it rises, and may leave numbers out.")
    kind: str
    subject: str
    text: str
    severity: Severity
    data: dict[str, Any]


class EventPageAnswer(BaseModel):
    """Some of the events of a node."""

    events: list[NodeEventAnswer]
    cursor: int = Field(description="To be given as `after` to read what follows.")
    oldest: int = Field(description="Number of the oldest event that is kept.")


class TableAnswer(BaseModel):
    """A table of a node."""

    name: str
    columns: dict[str, str] = Field(description="Types by name: time, number, integer, bool, text or json.")
    oldest: int = Field(description="Number of the oldest row that is kept.")
    next: int = Field(description="Number of the next row.")
    bytes: int = Field(description="Bytes on the node's disk.")


class TableRowsAnswer(BaseModel):
    """Some rows of a table."""

    name: str
    types: dict[str, str] = Field(description="Types of the columns by name.")
    numbers: list[int] = Field(description="Numbers of the rows.")
    columns: dict[str, list[Any]] = Field(description="Values by column; times are UNIX seconds.")
    cursor: int = Field(description="To be given as `after` to read what follows.")
    oldest: int = Field(description="Number of the oldest row that is kept.")
    more: bool = Field(description="Whether further rows follow.")


class AlarmAnswer(BaseModel):
    """An alarm of a node."""

    name: str
    field: str
    condition: str
    severity: AlarmSeverity
    text: str
    state: AlarmState
    active: bool = Field(description="Whether the condition holds.")
    latched: bool
    since: float = Field(description="Start of that state, UNIX seconds.")
    until: float | None = Field(description="End of shelving or suppression, UNIX seconds.")
    raised: float | None = Field(description="When the condition last began to hold, UNIX seconds.")
    value: float | str | bool | None = Field(description="Of the field, when the condition last began or ended.")
    units: str | None
    by: str | None = Field(description="The person who changed the state; null where the field did.")
    comment: str | None
    timeline: str | None = Field(description="Null where the field does not exist.")
    error: str | None = Field(description="The reason why it is not evaluated.")
    origin: str = Field(description="`site file` or `command`.")
    definition: dict[str, Any] = Field(description="With the keys of the site file.")


class ProcedureAnswer(BaseModel):
    """A query, command or operation of a node."""

    name: str
    kind: Literal["query", "command", "operation"] = Field(description="Nodes of older versions have commands only.")
    uri: str | None = Field(description="Its URI on the router; null where the node does not report it.")
    description: str | None = None
    destructive: bool | None = Field(
        description="Whether it destroys something, so that clients ask first; null where the node does not report it."
    )
    parameters: dict[str, Any] = Field(description="A JSON schema of the arguments.")
    result: dict[str, Any] | None = Field(description="A JSON schema of the result; null where it has any form.")


class ChangeAnswer(BaseModel):
    """A change of a run."""

    id: str
    seq: int = Field(description="Number of the change, from 1 on, without gaps.")
    state: RunState
    progress: float | None
    message: str | None
    update: Any = None


class RunAnswer(BaseModel):
    """A run of an operation."""

    id: str
    name: str
    state: RunState | None = Field(description="Null where it could not be read after the start of the run.")
    progress: float | None = Field(description="0 to 1; null where it is not known.")
    message: str | None
    error: str | None = Field(description="The reason why it failed, or by whom it was cancelled.")
    started: float | None = Field(description="UNIX seconds.")
    ended: float | None = Field(description="UNIX seconds.")
    queued: float | None = Field(None, description="UNIX seconds.")
    seq: int | None = Field(None, description="Number of its newest change.")
    arguments: dict[str, Any] | None = Field(None, description="With secrets redacted.")
    caller: dict[str, Any] | None = Field(
        None, description="The account that started it, and the person for whom that called."
    )
    update: Any = Field(None, description="The newest update; not in lists.")
    result: Any = Field(None, description="Not in lists.")
    changes: list[ChangeAnswer] | None = Field(None, description="Those after the requested number.")
