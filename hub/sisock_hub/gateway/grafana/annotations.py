"""Annotations of dashboards: gaps, alarms, and events of nodes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sisock.consumer import Data
from sisock.errors import BadRequest
from sisock.fields import Column, FloatArray
from sisock.patterns import expanded
from sisock.times import Interval
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana.catalogue import Meant, Target, resolve
from sisock_hub.gateway.grafana.series import fields_of, no_such
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.questions import Question
from sisock_hub.gateway.watch import Watch

MOST = 5000
"""Most marks of one query; if there are more, the newest are shown."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An annotation.

    Attributes
    ----------
    t : float
        UNIX seconds.
    end : float or None
        UNIX seconds; None if it has no duration.
    title, text : str
    tags : tuple of str
    """

    t: float
    end: float | None
    title: str
    text: str
    tags: tuple[str, ...]


def is_annotation(text: str) -> bool:
    """Return whether a text is a query for marks, not a target; names of nodes have no spaces."""
    return text.partition(" ")[0] in ("gaps", "alarms", "events")


class Annotations:
    """Finds the marks of a query.

    Parameters
    ----------
    client : QueryClient
    directory : FieldDirectory
    watch : Watch
    """

    def __init__(self, client: QueryClient, directory: FieldDirectory, watch: Watch) -> None:
        self._client, self._directory, self._watch = client, directory, watch

    async def find(self, text: str, interval: Interval) -> list[Mark]:
        """Return the marks of an interval, in order of time.

        Parameters
        ----------
        text : str
            ``gaps node::field``, ``alarms node::field`` (a field that is a bool, or a number that is not 0),
            ``events`` or ``events node``; all of them may be patterns. An empty text or ``*`` selects the events of all
            nodes.
        interval : Interval

        Raises
        ------
        BadRequest
            If it is another text.
        NoSuchField
            If there is no such field.
        """
        what, _, which = text.strip().partition(" ")
        match what, which.strip():
            case (("" | "*" | "events"), nodes) if what == "events" or not nodes:
                marks = list(self._events(nodes or "*", interval))
            case "gaps", targets if targets:
                marks = list(_gaps(await self._ask(targets, Question(interval, None, 2, "first")), interval))
            case "alarms", targets if targets:
                marks = list(_alarms(await self._ask(targets, Question(interval)), interval))
            case _:
                raise BadRequest(
                    f"annotation query {text[:100]!r}; write `gaps node::field`, `alarms node::field`, `events` or "
                    "`events node`"
                )
        return sorted(marks, key=lambda mark: mark.t)[-MOST:]

    def _events(self, nodes: str, interval: Interval) -> Iterator[Mark]:
        patterns = [shell.compiled() for shell in expanded(nodes)]
        for event in self._watch.events:
            if interval.start <= event.t < interval.end and any(each.match(event.node) for each in patterns):
                yield Mark(event.t, None, f"{event.node} {event.kind}", event.text, ("event", event.kind, event.node))

    async def _ask(self, text: str, question: Question) -> list[tuple[Data, Sequence[Target]]]:
        """Return the answers of the nodes that have a selected field."""
        meant: Meant = (await resolve(self._directory, [text]))[0]
        answers, errors = await self._client.answers(fields_of(meant.targets), question)
        found: list[tuple[Data, Sequence[Target]]] = []
        for node, data in answers.items():
            own = [target for target in meant.targets if target.node == node]
            if known := [each for each in own if each.field in data.fields or len(data[each.field])]:
                found.append((data, known))
        if not found and not meant.filtered:
            raise next(iter(errors.values()), no_such(meant.targets or [text]))
        return found


def _gaps(answers: Iterable[tuple[Data, Sequence[Target]]], interval: Interval) -> Iterator[Mark]:
    for data, targets in answers:
        for timeline, samples in data.timelines.items():
            names = [target.field for target in targets if target.field in samples.columns]
            of = f"{data.node}::{names[0]}" if len(names) == 1 else f"{data.node}, {timeline}"
            for start, end in samples.gaps:
                if start < interval.end and end >= interval.start:
                    text = f"{of}: no samples for {end - start:.3g} s"
                    yield Mark(start, end, f"gap in {of}", text, ("gap", data.node))


def _alarms(answers: Iterable[tuple[Data, Sequence[Target]]], interval: Interval) -> Iterator[Mark]:
    for data, targets in answers:
        for target in targets:
            t, values = data.t(target.field), data[target.field]
            if len(t) and values.dtype.kind not in "biuf":
                raise BadRequest(f"{target} is a string; an alarm is a field of type bool or number")
            for start, end in spans(t, values):
                text = f"{target} from {_clock(start)} to {_clock(end)}"
                yield Mark(max(start, interval.start), end, str(target), text, ("alarm", target.node))


def spans(t: FloatArray, values: Column) -> list[tuple[float, float]]:
    """Return the spans in which values are true: from the first true sample to the next one that is not.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending UNIX seconds.
    values : ndarray of bool or a number, shape (n,)
        A number is true if it is neither 0 nor NaN.
    """
    if not len(t):
        return []
    is_on = np.nan_to_num(values.astype(np.float64), nan=0.0) != 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_on, [False]]).astype(np.int8)))
    ends = np.minimum(edges[1::2], len(t) - 1)
    return list(zip(t[edges[::2]].tolist(), t[ends].tolist(), strict=True))


def _clock(t: float) -> str:
    return f"{np.datetime_as_string(np.datetime64(round(t * 1000.0), 'ms'))}Z"
