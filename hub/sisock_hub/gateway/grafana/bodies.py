"""What the JSON data sources of Grafana send; what is not here is taken no notice of."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from sisock_hub.gateway.grafana.ranges import MOST_POINTS
from sisock_hub.gateway.questions import MOST_TARGETS

_Text = Annotated[str, Field(max_length=20_000)]


class Range(BaseModel):
    """The range of a panel."""

    start: str | float = Field("now-1h", alias="from", description="ISO 8601, or milliseconds since 1970.")
    end: str | float = Field("now", alias="to", description="As `from`; exclusive.")


class Filter(BaseModel):
    """An ad hoc filter."""

    key: _Text
    operator: Literal["=", "!=", "=~", "!~"] = "="
    value: str | float | None = ""


class QueryTarget(BaseModel):
    """One of the queries of a panel."""

    target: _Text | float | None = Field(None, description="`node::field`, a pattern, or an annotation query.")
    ref_id: Annotated[str, Field(max_length=200)] | None = Field(None, alias="refId")
    hide: bool | None = False
    type: str | None = Field(None, description="`timeserie` or `table`, as old data sources send it; else data frames.")
    payload: Any = Field(None, description="An object may say `downsample` and `format`.")


class QueryBody(BaseModel):
    """What a panel asks for."""

    range: Range
    targets: list[QueryTarget] = Field(max_length=MOST_TARGETS)
    max_points: int | None = Field(None, alias="maxDataPoints", ge=2, le=MOST_POINTS)
    interval_ms: float | None = Field(None, alias="intervalMs", ge=0, le=1e14, allow_inf_nan=False)
    filters: list[Filter] | None = Field(None, alias="adhocFilters", max_length=50)


class SearchBody(BaseModel):
    """What is looked for among the names of fields."""

    target: _Text | float | None = ""


class VariableBody(BaseModel):
    """What a variable is filled with: a text, or an object that has it as `target`."""

    payload: Any = None


class MetricsBody(BaseModel):
    """Which metric is chosen at the moment."""

    metric: Any = None


class OptionsBody(BaseModel):
    """Of which part of a metric's payload the options are wanted."""

    name: _Text = ""


class TagBody(BaseModel):
    """Of which key the values are wanted."""

    key: _Text


class AnnotationSaid(BaseModel, extra="allow"):
    """An annotation of a dashboard; it is sent back with each of its marks."""

    query: _Text | None = ""


class AnnotationBody(BaseModel):
    """What a dashboard marks."""

    range: Range
    annotation: AnnotationSaid
