"""The names of fields in PromQL."""

import re
from collections.abc import Mapping

from sisock_hub.gateway.promql.series import NAME

FIELD_METRIC = "sisock_field"
"""The metric of which every numeric field is one series."""

_NOT_ALLOWED = re.compile(r"[^a-zA-Z0-9_:]")


def metric_name(field: str) -> str:
    """Return the name of the field's own metric: characters that Prometheus does not allow become ``_``."""
    name = _NOT_ALLOWED.sub("_", field)
    return f"_{name}" if name[:1].isdigit() else name


def label_sets(node: str, field: str, units: str | None) -> list[Mapping[str, str]]:
    """Return the labels of a field's series: that of `FIELD_METRIC`, then that of its own metric.

    Fields whose names differ only in characters that Prometheus does not allow share a metric; the label ``field`` has
    the name of the field. A field without units has no such label.
    """
    labels = {"node": node, "field": field} | ({"units": units} if units else {})
    return [{NAME: name} | labels for name in dict.fromkeys((FIELD_METRIC, metric_name(field)))]
