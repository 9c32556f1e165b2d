"""The request bodies of Grafana's JSON data sources; other keys are ignored."""

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
    payload: Any = Field(None, description="An object may have `downsample` and `format`.")


class QueryBody(BaseModel):
    """The query of a panel."""

    range: Range
    targets: list[QueryTarget] = Field(max_length=MOST_TARGETS)
    max_points: int | None = Field(None, alias="maxDataPoints", ge=2, le=MOST_POINTS)
    interval_ms: float | None = Field(None, alias="intervalMs", ge=0, le=1e14, allow_inf_nan=False)
    filters: list[Filter] | None = Field(None, alias="adhocFilters", max_length=50)


class SearchBody(BaseModel):
    """A search among the names of fields."""

    target: _Text | float | None = ""


class VariableBody(BaseModel):
    """The query of a variable: a text, or an object with the text as `target`."""

    payload: Any = None


class MetricsBody(BaseModel):
    """The selected metric."""

    metric: Any = None


class OptionsBody(BaseModel):
    """The part of a metric's payload to list options of."""

    name: _Text = ""


class TagBody(BaseModel):
    """The key to list values of."""

    key: _Text


class AnnotationSaid(BaseModel, extra="allow"):
    """An annotation of a dashboard; it is returned with each of its marks."""

    query: _Text | None = ""


class AnnotationBody(BaseModel):
    """The annotation query of a dashboard."""

    range: Range
    annotation: AnnotationSaid
