"""The command that shows what happened in nodes: `events`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisock.cli.ask import Json, asking
from sisock.cli.places import SiteOption
from sisock.cli.terminal import echo
from sisock.errors import NodeFailed, NoSuchNode, SisockError
from sisock.event import SEVERITIES, Event
from sisock.times import SYSTEM_CLOCK, iso, parse_start, parse_time, wait_until

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer

# Seconds between requests for new events, and between lists of the nodes.
_EVERY_S, _NODES_EVERY_S = 0.5, 10.0


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(events)


def events(
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Name of the node; by default all.")] = None,
    start: Annotated[str | None, typer.Option(help="Start: -1h, ISO 8601, or all.")] = None,
    end: Annotated[str | None, typer.Option(help="End, exclusive; 0 is now.")] = None,
    severity: Annotated[
        str | None, typer.Option(autocompletion=lambda: list(SEVERITIES), help="This one or worse.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Kind, or a pattern such as '{alarm,run}'.")] = None,
    subject: Annotated[str | None, typer.Option(help="Subject, or a pattern such as 'room/*'.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most events of each node.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Then show events as they come, until Ctrl-C.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show the newest events of a node, or of all nodes."""
    which: dict[str, Any] = {"severity": severity, "kind": kind, "subject": subject}
    bounds = None if start is None else parse_start(start), None if end is None else parse_time(end)
    with asking(site) as consumer:
        reader = _Reader(consumer, node, which)
        _show(reader.newest(*bounds, limit), as_json=as_json)
        if not reader.cursors:
            echo("no node keeps events", err=True)
        try:
            while follow:
                _show(reader.following(), as_json=as_json)
                wait_until(lambda: False, _EVERY_S, every_s=_EVERY_S)
        except KeyboardInterrupt:
            return  # the normal way out


class _Reader:
    """Reads the events of a node or of all nodes; what is new by the cursors of the answers before.

    Parameters
    ----------
    consumer : BlockingConsumer
    node : str or None
    which : dict
        Keywords of `Consumer.events`.
    """

    def __init__(self, consumer: "BlockingConsumer", node: str | None, which: dict[str, Any]) -> None:
        self._consumer, self._node, self._which = consumer, node, which
        self.cursors: dict[str, int] = {}
        """Of the nodes that have answered."""
        self._listed, self._listed_at = [] if node is None else [node], float("-inf")
        self._error = ""

    def newest(self, start: float | None, end: float | None, limit: int) -> list[tuple[str, Event]]:
        """Return the newest events of each node, by time."""
        found: list[tuple[str, Event]] = []
        for name in self._names():
            try:
                page = self._consumer.events(name, start, end, limit=limit, **self._which)
            except (NodeFailed, NoSuchNode):
                if self._node is not None:
                    raise
                continue  # it keeps no events, or has left
            self.cursors[name] = page.cursor
            found += [(name, event) for event in page.events]
        return sorted(found, key=lambda each: each[1].time)

    def following(self) -> list[tuple[str, Event]]:
        """Return the events since the last answer of each node, by time; an error is shown once, and retried."""
        found: list[tuple[str, Event]] = []
        try:
            for name in self._names():
                found += [(name, event) for event in self._new(name)]
        except SisockError as error:
            if error.message != self._error:
                echo(error.message, err=True)
            self._error = error.message
        else:
            self._error = ""
        return sorted(found, key=lambda each: each[1].time)

    def _new(self, name: str) -> list[Event]:
        after = self.cursors.get(name, 0)  # of a node that has joined meanwhile, all
        try:
            page = self._consumer.events(name, after=after, limit=1000, **self._which)
        except (NodeFailed, NoSuchNode):
            return []
        if name in self.cursors and page.oldest > after:
            echo(f"{name}: events before {page.oldest} are not kept any longer", err=True)
        self.cursors[name] = page.cursor
        return page.events

    def _names(self) -> list[str]:
        if self._node is None and SYSTEM_CLOCK.monotonic() - self._listed_at >= _NODES_EVERY_S:
            self._listed, self._listed_at = [info.name for info in self._consumer.nodes()], SYSTEM_CLOCK.monotonic()
        return self._listed


def _show(found: list[tuple[str, Event]], *, as_json: bool) -> None:
    for name, event in found:
        if as_json:
            typer.echo(json.dumps({"node": name, **event.as_dict()}))
        else:
            echo(f"{iso(event.time)}  {name}  {event.severity:8}  {event.kind:9}  {event.text}")
