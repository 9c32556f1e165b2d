"""The commands about alarms: `alarms` lists them, `alarm` acknowledges and shelves."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from sisock.alarm.settings import SEVERITIES
from sisock.alarm.state import STATES
from sisock.cli.ask import Json, NodeName, asking
from sisock.cli.places import SiteOption, find_access
from sisock.cli.terminal import echo, make_console
from sisock.errors import BadRequest, NoSuchProcedure, SisockError
from sisock.printable import printable
from sisock.times import SYSTEM_CLOCK, ago, iso, parse_span, parse_time

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer

# Seconds between two looks of `--watch`.
_EVERY_S = 1.0
_URGENCY = {state: i for i, state in enumerate(("unacknowledged", "returned", "acknowledged", "shelved", "suppressed"))}
_STYLES = {"info": "cyan", "warning": "yellow", "error": "red", "critical": "bold red"}
_COLUMNS = ("severity", "state", "node", "alarm", "since", "text")

AlarmPattern = Annotated[
    str, typer.Argument(metavar="ALARM", help="Name of the alarm, or a pattern such as 'room/*' in quotes.")
]
Comment = Annotated[str | None, typer.Option(help="For those who read about it later.")]
For = Annotated[str | None, typer.Option("--for", help="For how long, such as 2h.")]
Until = Annotated[str | None, typer.Option(help="Or until when: ISO 8601 (UTC without a zone) or UNIX seconds.")]

Row = dict[str, Any]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("alarms")(list_alarms)
    group = typer.Typer(help="Acknowledge, shelve and delete alarms, as operator.", no_args_is_help=True)
    for command in (acknowledge, reset, shelve, unshelve, suppress, delete):
        group.command()(command)
    app.add_typer(group, name="alarm")


def list_alarms(
    node: Annotated[str | None, typer.Argument(help="Name of a node; all nodes without one.")] = None,
    site: SiteOption = None,
    as_json: Json = False,
    every: Annotated[bool, typer.Option("--all", help="List alarms in the state normal as well.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show changes as they come, until Ctrl-C.")] = False,
) -> None:
    """List the alarms that are not normal, the most urgent first."""
    console = make_console()
    with asking(site) as consumer:

        def look() -> _Look:
            found = _look(consumer, node)
            return found._replace(rows=[row for row in found.rows if every or row["state"] != "normal" or row["error"]])

        if not watch:
            found = look()
            for name, error in found.errors.items():
                echo(f"{name}: {error}", err=True)
            _show(console, found.rows, as_json=as_json)
            return
        try:
            if console.is_terminal and not as_json:
                _live(console, look)
            else:
                _changes(look, as_json=as_json)
        except KeyboardInterrupt:
            return  # the normal way out


class _Look(NamedTuple):
    """Alarms, the most urgent first, and the errors of nodes that do not answer."""

    rows: list[Row]
    errors: dict[str, str]


def _look(consumer: "BlockingConsumer", node: str | None) -> _Look:
    """Return the alarms of a node, or of all; the error of a single node is raised."""
    if node is not None:
        return _Look(_ranked({"node": node, **row} for row in consumer.alarms(node)), {})
    rows, errors = list[Row](), dict[str, str]()
    for each in consumer.nodes():
        try:
            rows += [{"node": each.name, **row} for row in consumer.alarms(each.name)]
        except NoSuchProcedure:
            continue  # of a make without alarms
        except SisockError as error:
            errors[each.name] = error.message
    return _Look(_ranked(rows), errors)


def _ranked(rows: Iterable[Row]) -> list[Row]:
    def urgency(row: Row) -> tuple[int, int, float]:
        return _URGENCY.get(row["state"], len(STATES)), -SEVERITIES.index(row["severity"]), -row["since"]

    return sorted(rows, key=urgency)


def _show(console: Console, rows: Sequence[Row], *, as_json: bool) -> None:
    from sisock.cli import show

    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        now = SYSTEM_CLOCK.now()
        show.table(console, _COLUMNS, [_cells(row, now) for row in rows])
    else:
        echo("no alarms", err=True)


def _cells(row: Row, now: float) -> list[str]:
    about = [row["text"] if row["active"] else row["condition"]]
    if row["until"] is not None:
        about.append(f"until {iso(row['until'])}")
    if row["by"] is not None:
        comment = f": {row['comment']}" if row["comment"] else ""
        about.append(f"by {row['by']}{comment}")
    if row["error"] is not None:
        about.append(f"not evaluated: {row['error']}")
    since = ago(now - row["since"])
    return [row["severity"], row["state"], row["node"], row["name"], since, "; ".join(about)]


def _live(console: Console, look: Callable[[], _Look]) -> None:
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        for rows, errors in _looks(look):
            now = SYSTEM_CLOCK.now()
            table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), caption_justify="left")
            for column in _COLUMNS:
                table.add_column(column, no_wrap=column != "text", overflow="fold")
            for row in rows:
                style = _STYLES[row["severity"]] if row["state"] == "unacknowledged" else None
                table.add_row(*(printable(cell) for cell in _cells(row, now)), style=style)
            notes = [f"{len(rows)} alarms, Ctrl-C ends", *(f"{name}: {error}" for name, error in errors.items())]
            table.caption = printable("; ".join(notes))
            live.update(table, refresh=True)


def _changes(look: Callable[[], _Look], *, as_json: bool) -> None:
    """Print a line for each alarm that is new or has changed, and for each error of a node that is new."""
    known, failing = dict[tuple[str, str], Row](), dict[str, str]()
    for found, errors in _looks(look):
        for name, error in errors.items() - failing.items():
            echo(f"{name}: {error}", err=True)
        rows = {(row["node"], row["name"]): row for row in found}
        ended = [{**row, "state": "normal", "active": False} for key, row in known.items() if key not in rows]
        now = SYSTEM_CLOCK.now()
        for row in (*ended, *(row for key, row in rows.items() if known.get(key) != row)):
            typer.echo(json.dumps(row) if as_json else "\t".join(map(printable, _cells(row, now))))
        known, failing = rows, errors


def _looks(look: Callable[[], _Look]) -> Iterator[_Look]:
    """Yield the alarms again and again; those of a node that does not answer as they were."""
    before: list[Row] = []
    while True:
        try:
            found = look()
        except SisockError as error:
            if not error.retriable:
                raise
            found = _Look(before, {"site": error.message})
        else:
            found.rows.extend(row for row in before if row["node"] in found.errors)
            before = found.rows
        yield found
        _pause()


def _pause() -> None:
    SYSTEM_CLOCK.wait(threading.Event(), _EVERY_S)


def acknowledge(
    node: NodeName,
    alarm: AlarmPattern,
    comment: Comment = None,
    site: SiteOption = None,
) -> None:
    """Acknowledge alarms: somebody knows of them."""
    _call(site, node, "acknowledge_alarm", name=alarm, comment=comment)


def reset(node: NodeName, alarm: AlarmPattern, comment: Comment = None, site: SiteOption = None) -> None:
    """Reset latched alarms that are acknowledged and have cleared."""
    _call(site, node, "reset_alarm", name=alarm, comment=comment)


def shelve(
    node: NodeName,
    alarm: AlarmPattern,
    duration: For = None,
    until: Until = None,
    comment: Comment = None,
    site: SiteOption = None,
) -> None:
    """Shelve alarms for a while: nobody is notified of them."""
    _call(site, node, "shelve_alarm", name=alarm, comment=comment, **_end(duration, until))


def unshelve(node: NodeName, alarm: AlarmPattern, comment: Comment = None, site: SiteOption = None) -> None:
    """End the shelving or suppression of alarms."""
    _call(site, node, "unshelve_alarm", name=alarm, comment=comment)


def suppress(
    node: NodeName,
    alarm: AlarmPattern,
    duration: For = None,
    until: Until = None,
    comment: Comment = None,
    site: SiteOption = None,
) -> None:
    """Suppress alarms of equipment that is out of service, for a while."""
    _call(site, node, "suppress_alarm", name=alarm, comment=comment, **_end(duration, until))


def delete(
    node: NodeName,
    alarm: Annotated[str, typer.Argument(metavar="ALARM", help="Name of an alarm that `set_alarm` has defined.")],
    site: SiteOption = None,
) -> None:
    """Delete an alarm that was set by command."""
    _call(site, node, "delete_alarm", name=alarm)


def _end(duration: str | None, until: str | None) -> dict[str, float]:
    if (duration is None) == (until is None):
        raise BadRequest("give either --for, such as 2h, or --until, a time")
    return {"for": parse_span(duration)} if duration is not None else {"until": parse_time(until or "")}


def _call(site: Any, node: str, command: str, **arguments: Any) -> None:
    """Call a command of a node, and print what it has changed."""
    from sisock.consumer import BlockingConsumer

    with BlockingConsumer(find_access(site, "operator")) as consumer:
        outcome = consumer.call(node, command, **arguments)
    for name in outcome["changed"]:
        echo(name)
    for name, why in outcome["unchanged"].items():
        echo(f"{name} is not changed: {why}", err=True)
    if not outcome["saved"]:
        echo("the change is not on the disk, and is lost when the node restarts", err=True)
    if not outcome["changed"]:
        raise typer.Exit(1)
