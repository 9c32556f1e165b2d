"""Annotations of dashboards: gaps, alarms, and events of nodes."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from sisock.consumer import Data
from sisock.errors import BadRequest, SisockError
from sisock.event import SEVERITIES, Severity
from sisock.fields import Column, FloatArray
from sisock.patterns import expanded
from sisock.times import Interval
from sisock_hub.gateway.event_feeds import EventContent, Selection
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana.catalogue import Meant, Target, resolve
from sisock_hub.gateway.grafana.series import fields_of, no_such
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.questions import Question
from sisock_hub.gateway.watch import Watch
from sisock_hub.gateway.work_client import GATEWAY_ITSELF, WorkClient

MOST = 5000
"""Most marks of one query; if there are more, the newest are shown."""
_MOST_READ = 1000
_SEVERITIES: Mapping[str, Severity] = {"left": "warning", "stale": "warning"}

log = logging.getLogger(__name__)


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
    work : WorkClient
    directory : FieldDirectory
    watch : Watch
    """

    def __init__(self, client: QueryClient, work: WorkClient, directory: FieldDirectory, watch: Watch) -> None:
        self._client, self._work, self._directory, self._watch = client, work, directory, watch

    async def find(self, text: str, interval: Interval) -> list[Mark]:
        """Return the marks of an interval, in order of time.

        Parameters
        ----------
        text : str
            ``gaps node::field``, ``alarms node::field`` (a field that is a bool, or a number that is not 0),
            ``events``, ``events node``, ``events node severity`` or ``events node severity kind``; all names may be
            patterns. An empty text or ``*`` selects the events of all nodes.
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
                marks = await self._events(nodes, interval)
            case "gaps", targets if targets:
                marks = list(_gaps(await self._ask(targets, Question(interval, None, 2, "first")), interval))
            case "alarms", targets if targets:
                marks = list(_alarms(await self._ask(targets, Question(interval)), interval))
            case _:
                raise BadRequest(
                    f"annotation query {text[:100]!r}; write `gaps node::field`, `alarms node::field`, `events`, "
                    "`events node`, `events node severity` or `events node severity kind`"
                )
        return sorted(marks, key=lambda mark: mark.t)[-MOST:]

    async def _events(self, text: str, interval: Interval) -> list[Mark]:
        """Return arrivals, departures and silences of nodes, and what these have reported."""
        nodes, severity, kind = (*text.split(), *("*", "info", "*")[len(text.split()) :])[:3]
        if severity not in SEVERITIES or len(text.split()) > 3:
            raise BadRequest(
                f"{text[:100]!r} does not select events; write node, severity and kind: events rig warning alarm"
            )
        selection = Selection(severity, kind)
        selects, patterns = selection.compiled(), [shell.compiled() for shell in expanded(nodes)]

        def is_meant(node: str) -> bool:
            return any(each.match(node) for each in patterns)

        marks = [
            Mark(event.t, None, f"{event.node} {event.kind}", event.text, ("event", event.kind, event.node))
            for event in self._watch.events
            if interval.start <= event.t < interval.end
            and is_meant(event.node)
            and selects({"severity": _SEVERITIES.get(event.kind, "info"), "kind": event.kind, "subject": ""})
        ]
        present = [node.name for node in self._watch.nodes if node.state != "gone" and is_meant(node.name)]
        reported = await asyncio.gather(*(self._reported(node, selection, interval) for node in present))
        return [*marks, *chain.from_iterable(reported)]

    async def _reported(self, node: str, selection: Selection, interval: Interval) -> list[Mark]:
        """Return the newest events that a node has reported; none if it does not answer."""
        marks: list[Mark] = []
        which: dict[str, Any] = {"severity": selection.severity, "kind": selection.kind, "limit": _MOST_READ}
        try:
            async with asyncio.timeout(self._client.timeout_s):
                while len(marks) < MOST:
                    page = await self._work.events(
                        node, GATEWAY_ITSELF, start=interval.start, end=interval.end, **which
                    )
                    marks += [_mark_of_event(node, event) for event in page["events"]]
                    if not page["events"] or page["events"][0]["seq"] <= page["oldest"]:
                        break
                    which["before"] = page["events"][0]["seq"]
        except (SisockError, TimeoutError) as error:  # other nodes are shown; older ones keep no events
            log.debug("events of %s are not shown: %s", node, error)
        return marks

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


def _mark_of_event(node: str, event: EventContent) -> Mark:
    title = f"{node}: {event['kind']} {event['subject']}"
    tags = ("event", event["kind"], event["severity"], node)
    return Mark(event["time"], None, title, event["text"], tags)


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
