"""PromQL over the fields of the nodes, as far as dashboards need it. No network, no HTTP.

`parse` turns a text into a `Query` with its `selections`; the caller fetches their samples and passes them to
`Query.evaluate`.
"""

from sisock.errors import NotSupported
from sisock_hub.gateway.promql.matching import Matcher, Selector
from sisock_hub.gateway.promql.parsing import parse, parse_selector
from sisock_hub.gateway.promql.query import Query
from sisock_hub.gateway.promql.selection import LOOKBACK_S, Selection, Use
from sisock_hub.gateway.promql.series import FloatArray, Series, Track

__all__ = [
    "LOOKBACK_S",
    "FloatArray",
    "Matcher",
    "NotSupported",
    "Query",
    "Selection",
    "Selector",
    "Series",
    "Track",
    "Use",
    "parse",
    "parse_selector",
]
