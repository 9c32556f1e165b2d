"""How several timelines share the columns of one file, and the metadata of that."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sisock.fields import Field
from sisock.recording.contents import SEVERAL, Origin, RecordedTimeline, origin_head, read_timeline, timeline_head

Columns = Mapping[str, Mapping[str, str]]
"""Names of columns by field, by timeline."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a file with several timelines.

    Attributes
    ----------
    time : str
        The column of times: ``t``.
    timeline : str
        The column that names the timeline of each row: ``timeline``.
    columns : dict of str to dict of str to str
        By timeline and field; each is missing in the rows of other timelines.
    """

    time: str
    timeline: str
    columns: Columns

    @classmethod
    def of(cls, contents: Iterable[RecordedTimeline]) -> "Layout":
        """Return how some timelines share a file: a column has the name of its field, if only one timeline has it."""
        fields = [(recorded.timeline.name, field.name) for recorded in contents for field in recorded.timeline.fields]
        counts = Counter(field for _, field in fields)
        taken = set(counts)
        columns: dict[str, dict[str, str]] = {}
        for timeline, field in fields:
            name = field
            if counts[field] > 1:
                name = f"{timeline}.{field}"
                while name in taken:
                    name = f"_{name}"
                taken.add(name)
            columns.setdefault(timeline, {})[field] = name
        time = _free("t", taken)
        return cls(time, _free("timeline", taken | {time}), columns)

    def head(self, origin: Origin, contents: Iterable[RecordedTimeline]) -> dict[str, Any]:
        """Return the metadata of the file, as values for JSON."""
        timelines = [
            {**timeline_head(recorded), "columns": self.columns[recorded.timeline.name]} for recorded in contents
        ]
        names = {"time": self.time, "timeline": self.timeline}
        return {**origin_head(origin), "version": SEVERAL, **names, "timelines": timelines}


def read_layout(
    head: Mapping[str, Any], fields: Mapping[str, Field], dtypes: Mapping[str, np.dtype[Any]]
) -> tuple[Layout, list[RecordedTimeline]]:
    """Return the layout in the metadata of a file, and its timelines.

    Parameters
    ----------
    head : mapping
        As `Layout.head` makes it.
    fields, dtypes : mapping of str
        By column; what is of no column that is there is left out.
    """
    layout = Layout(head["time"], head["timeline"], {each["timeline"]: each["columns"] for each in head["timelines"]})
    contents = []
    for each in head["timelines"]:
        own = {field: column for field, column in each["columns"].items() if column in fields}
        described = [replace(fields[column], name=field) for field, column in own.items()]
        if described:
            contents.append(read_timeline(each, described, {field: dtypes[column] for field, column in own.items()}))
    return layout, contents


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"_{name}"
    return name
