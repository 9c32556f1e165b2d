"""The commands that read nodes: `nodes`, `fields`, `get`, `status`."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sisock.cli.places import SiteOption, find_access
from sisock.cli.terminal import echo, make_console
from sisock.downsample import METHODS, methods_help
from sisock.errors import BadRequest, NodeFailed, SisockError
from sisock.outage import age_content, reported_age, reported_health
from sisock.patterns import choose_fields
from sisock.times import SYSTEM_CLOCK, ago, iso, parse_span, parse_start, parse_time, resolve

if TYPE_CHECKING:
    from sisock.access import Access
    from sisock.consumer import BlockingConsumer, Consumer, Data, FieldInfo, NodeInfo
    from sisock.shapes import Axis

Json = Annotated[bool, typer.Option("--json", help="For machines.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name of the node, as `sisock nodes` lists it.")]
FieldNames = Annotated[
    list[str], typer.Argument(metavar="FIELD…", help="Names of fields, or patterns such as 'cpu.*' in quotes.")
]
Start = Annotated[
    str,
    typer.Option(
        help="Start: seconds since 1970, -10m or -1h30m for that long ago, ISO 8601 (UTC without a zone), "
        "or all for the first sample."
    ),
]
End = Annotated[str, typer.Option(help="End, exclusive; 0 is now.")]
MinStride = Annotated[str | None, typer.Option(help="Downsample by bins of this width, such as 1s.")]
Downsample = Annotated[
    str | None,
    typer.Option(
        autocompletion=lambda: list(METHODS), help=f"Method of downsampling, by default minmax. {methods_help()}."
    ),
]

# Seconds that a node may take to report its health.
_PROBE_S = 3.0
# With fewer, the newest sample of an interval would not be among its samples.
_FEW = 3
# Rows that a terminal gets of a long table.
_MOST_ROWS = 40


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (nodes, fields, get, status):
        app.command()(command)


@contextmanager
def asking(site: Any) -> "Iterator[BlockingConsumer]":
    """Open a consumer of a site; see `find_access`."""
    from sisock.consumer import BlockingConsumer

    with BlockingConsumer(find_access(site)) as consumer:
        consumer.show_progress = False  # commands have bars of their own
        yield consumer


def nodes(site: SiteOption = None, as_json: Json = False) -> None:
    """List the nodes with their health and the age of their newest sample."""
    from sisock.cli import show

    found = asyncio.run(_nodes_with_health(find_access(site)))
    if as_json:
        described = [
            {"name": node.name, "description": node.description, "health": health, **age_content(age)}
            for node, health, age in found
        ]
        typer.echo(json.dumps(described))
    elif found:
        rows = [
            (node.name, _in_words(health), "" if age is None else ago(age), node.description or "")
            for node, health, age in found
        ]
        show.table(make_console(), ("node", "health", "newest", "description"), rows)
    else:
        echo("no nodes", err=True)


async def _nodes_with_health(access: "Access") -> "list[tuple[NodeInfo, dict[str, Any] | None, float | None]]":
    from sisock.consumer import Consumer

    async with Consumer(access) as consumer:
        there = sorted(await consumer.nodes(), key=lambda node: node.name)
        found = await asyncio.gather(*(_health(consumer, node.name) for node in there))
        return [(node, *each) for node, each in zip(there, found, strict=True)]


async def _health(consumer: "Consumer", node: str) -> tuple[dict[str, Any] | None, float | None]:
    """Return the health that a node reports and the age of its newest sample; None for each that it does not report.

    The health is `stale` if the node does not answer.
    """
    try:
        async with asyncio.timeout(_PROBE_S):
            status = await consumer.status(node)
            return reported_health(status), reported_age(status)
    except SisockError as error:
        silent = {"state": "stale", "since": None, "error": error.message}
        return None if isinstance(error, NodeFailed) else silent, None
    except TimeoutError:
        return {"state": "stale", "since": None, "error": f"it did not answer within {_PROBE_S:g} s"}, None


def _in_words(health: dict[str, Any] | None) -> str:
    if health is None:
        return "not reported"
    return f"{health['state']}: {health['error']}" if health["error"] else str(health["state"])


def fields(node: NodeName, start: Start = "1", end: End = "0", site: SiteOption = None, as_json: Json = False) -> None:
    """List the fields of a node that have samples, by default at any time."""
    from sisock.cli import show

    with asking(site) as consumer:
        infos = consumer.fields(node, parse_start(start), parse_time(end)).values()
    if as_json:
        keys = ("name", "type", "units", "timeline", "interval_s", "description", "shape", "axis")
        typer.echo(json.dumps([{key: _plain(getattr(info, key)) for key in keys} for info in infos]))
        return
    rows: list[tuple[str, ...]] = [
        (i.name, i.type, i.units or "", i.timeline, f"{i.interval_s:g}" if i.interval_s else "", i.description or "")
        for i in infos
    ]
    heads = ["field", "type", "units", "timeline", "every s", "description"]
    if any(i.shape for i in infos):
        heads += ["shape", "axis"]
        rows = [(*row, " × ".join(map(str, i.shape)), _axis(i.axis)) for row, i in zip(rows, infos, strict=True)]
    if rows:
        show.table(make_console(), heads, rows)
    else:
        echo(f"node {node} has no samples in that interval", err=True)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _axis(axis: "Axis | None") -> str:
    if axis is None:
        return ""
    units = f" {axis.units}" if axis.units and axis.units != "1" else ""
    return f"{axis.name} {axis.values[0]:g} … {axis.values[-1]:g}{units}"


def get(
    node: NodeName,
    field: FieldNames,
    start: Start = "-1h",
    end: End = "0",
    min_stride: MinStride = None,
    max_points: Annotated[
        int | None, typer.Option(min=2, help="Maximum number of samples; the node chooses the stride.")
    ] = None,
    downsample: Downsample = None,
    site: SiteOption = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A block of CSV for each timeline.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw in the terminal.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show all rows of a long table.")] = False,
) -> None:
    """Get samples of some fields of a node; times are shown in UTC."""
    from sisock.cli import show

    if as_json + as_csv + plot > 1:
        raise BadRequest("give one of --json, --csv and --plot")
    bounds = parse_start(start), parse_time(end)
    stride = None if min_stride is None else parse_span(min_stride)
    console = make_console()
    if plot:  # as many as the terminal can show, without losing a spike
        max_points = max_points or 4 * console.width
    thin: dict[str, Any] = {"min_stride": stride, "max_points": max_points, "downsample": downsample}
    with asking(site) as consumer:
        infos = consumer.fields(node)
        names = choose_fields(node, field, infos)
        arrays = [name for name in names if plot and name in infos and infos[name].shape]
        for name in arrays:
            show.as_plot(console, _newest_of(consumer, infos[name], node, bounds))
        if arrays and not (names := [name for name in names if name not in arrays]):
            return
        with _progress(f"reading {node}", hidden=as_json) as progress:
            data = consumer.data(node, names, *bounds, **thin, progress=progress)
        if as_json:
            typer.echo(json.dumps(show.as_json(data)))
        elif as_csv:
            show.as_csv(sys.stdout, data)
        elif plot:
            show.as_plot(console, data)
        else:
            show.as_table(console, data, most=None if everything or not console.is_terminal else _MOST_ROWS)
        if empty := [name for name in data if not len(data[name])]:
            newest = _newest(consumer, node, {data.fields[name].timeline for name in empty if name in data.fields})
            hint = f"; the newest sample is of {iso(newest)}" if newest else ""
            echo(f"no samples of {', '.join(empty)} in that interval{hint}", err=True)


def _newest_of(consumer: "BlockingConsumer", info: "FieldInfo", node: str, bounds: tuple[float, float]) -> "Data":
    """Return the newest samples of a field in an interval: few, since those of an array are large."""
    interval = resolve(*bounds, SYSTEM_CLOCK.now())
    newest = timelines_status(consumer, node).get(info.timeline, {}).get("newest")
    if newest is not None and interval.start <= newest < interval.end:
        interval = interval._replace(start=newest)
    return consumer.data(node, [info.name], *interval, max_points=_FEW, downsample="minmax")


@contextmanager
def _progress(what: str, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """Show the received part of a large answer, on a terminal."""
    stderr = make_console(stderr=True)
    label = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), label, BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=hidden or not stderr.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def status(
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="Name of the node; by default the router.")
    ] = None,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show the health and counters of a node, or the connections, limits and counters of the router."""
    with asking(site) as consumer:
        answer = consumer.status(node) if node else consumer.router_status()
    if not answer and node is None:
        raise BadRequest("this router reports no status; give the name of a node")
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for line in tree(answer):
        echo(line)
    if not answer:
        echo(f"node {node} reports no status", err=True)


def _newest(consumer: "BlockingConsumer", node: str, timelines: set[str]) -> float | None:
    """Return the time of the newest sample on some timelines."""
    known = timelines_status(consumer, node)
    return max((known[name]["newest"] for name in timelines & known.keys() if known[name].get("newest")), default=None)


def timelines_status(consumer: "BlockingConsumer", node: str) -> dict[str, dict[str, Any]]:
    """Return the part of each timeline in the status of a node, by name; empty for a node without a status."""
    try:
        timelines: dict[str, dict[str, Any]] = consumer.status(node).get("timelines", {})
    except SisockError:
        return {}  # a node that speaks only the published contract has no status
    return timelines


def tree(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines that show a dictionary, or a list of them."""
    if isinstance(value, list):
        for each in value:
            yield from tree(each, indent) if isinstance(each, dict) else (f"{indent}{each}",)
        return
    for key, item in value.items():
        if isinstance(item, dict):
            yield f"{indent}{key}:"
            yield from tree(item, indent + "  ")
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for each in item:
                yield f"{indent}{key}:"
                yield from tree(each, indent + "  ")
        else:
            yield f"{indent}{key}: {_shown(key, item)}"


def _shown(key: str, item: Any) -> str:
    if item is None:
        return ""
    if isinstance(item, bool):
        return str(item).lower()
    if not isinstance(item, float):
        return str(item)
    if key in ("since", "oldest", "newest", "finalized_until", "silent_since"):
        return iso(item)
    if key in ("age", "ahead"):
        return ago(item if key == "age" else -item)
    return f"{item:g} s" if key in ("expected_every", "stale_after") else str(item)
