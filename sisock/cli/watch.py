"""The command that shows samples as they come: `watch`."""

import json
import math
import queue
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sisock.cli.ask import FieldNames, Json, NodeName, asking, timelines_status
from sisock.cli.places import SiteOption
from sisock.cli.terminal import echo, make_console
from sisock.errors import SisockError
from sisock.patterns import choose_fields
from sisock.printable import printable
from sisock.times import SYSTEM_CLOCK, ago, iso
from sisock.worker import Worker

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer, FieldInfo
    from sisock.fields import Batch, Column, FloatArray


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(watch)


def watch(
    node: NodeName,
    field: FieldNames,
    site: SiteOption = None,
    as_json: Json = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after this number of samples of each field.")] = None,
) -> None:
    """Show samples of some fields as they arrive, until Ctrl-C."""
    console = make_console()
    with asking(site) as consumer:
        infos = consumer.fields(node)
        names = choose_fields(node, field, infos)
        watched = {name: _Watched(infos[name]) for name in names}
        updates = _updates(consumer, node, {infos[name].timeline for name in names})
        try:
            if console.is_terminal and not as_json:
                _latest(consumer, node, watched)
                _live(console, consumer, node, watched, updates, count)
            else:
                _lines(watched, updates, count, as_json=as_json)
        except KeyboardInterrupt:
            return  # the normal way out


@dataclass
class _Watched:
    """A field that is watched: its last value, and the values before it."""

    info: "FieldInfo"
    t: float | None = None
    value: Any = None
    past: deque[float] = field(default_factory=lambda: deque(maxlen=30))
    seen: int = 0

    def put(self, t: "FloatArray", values: "Column") -> None:
        if not len(values):
            return
        self.t, self.value = float(t[-1]), values[-1]
        self.seen += len(values)
        if self.info.type == "number" and values.ndim == 1:
            self.past.extend(float(v) for v in values[-30:])


def _latest(consumer: "BlockingConsumer", node: str, watched: dict[str, _Watched]) -> None:
    """Fill in the samples of the last minutes, so that slow timelines do not start empty."""
    longest = max((w.info.interval_s or 60.0 for w in watched.values()), default=60.0)
    try:
        data = consumer.data(node, list(watched), -max(60.0, 3 * longest))
    except SisockError:
        return  # too large, or the node has left: the feed shows which
    for name, each in watched.items():
        for part in data.quantities(name):
            if part.rows[-1]:
                each.put(data.t(name)[part.rows], part.values)
        each.seen = 0


def _updates(consumer: "BlockingConsumer", node: str, timelines: set[str]) -> "queue.Queue[Batch | SisockError]":
    """Return a queue of the batches of several timelines, filled by a thread for each."""
    updates: queue.Queue[Any] = queue.Queue(10_000)

    def follow(timeline: str) -> None:
        try:
            for batch in consumer.subscribe(node, timeline):
                updates.put(batch)
        except SisockError as error:
            updates.put(error)

    for timeline in timelines:
        Worker(f"feed {timeline}", follow).start(timeline)
    return updates


def _next(updates: "queue.Queue[Batch | SisockError]", timeout_s: float) -> "Batch | None":
    try:
        update = updates.get(timeout=timeout_s)
    except queue.Empty:
        return None
    if isinstance(update, SisockError):
        raise update
    return update


def _enough(watched: dict[str, _Watched], count: int | None) -> bool:
    return count is not None and all(w.seen >= count for w in watched.values())


def _lines(
    watched: dict[str, _Watched], updates: "queue.Queue[Batch | SisockError]", count: int | None, *, as_json: bool
) -> None:
    from sisock.cli.show import value
    from sisock.serializable import as_list

    while not _enough(watched, count):
        batch = _next(updates, 1.0)
        if batch is None:
            continue
        if batch.missed:
            echo(f"missed {batch.missed} batches of {batch.timeline}", err=True)
        for name in watched.keys() & batch.columns.keys():
            watched[name].put(batch.t, batch[name])
            plain = as_list(batch[name])
            # Of an array its minimum and maximum are shown.
            shown = plain if batch[name].ndim == 1 else batch[name]
            for t, v, text in zip(batch.t.tolist(), plain, map(value, shown), strict=True):
                as_text = f"{iso(t)}\t{printable(name)}\t{text}"
                typer.echo(json.dumps({"t": t, "field": name, "value": v}) if as_json else as_text)
        sys.stdout.flush()


def _limits(consumer: "BlockingConsumer", node: str) -> dict[str, float]:
    """Return the seconds without a sample after which each reported timeline of a node is stale."""
    known = timelines_status(consumer, node)
    return {name: about["stale_after"] for name, about in known.items() if about.get("stale_after")}


def _live(
    console: Console,
    consumer: "BlockingConsumer",
    node: str,
    watched: dict[str, _Watched],
    updates: "queue.Queue[Batch | SisockError]",
    count: int | None,
) -> None:
    from rich.live import Live
    from rich.table import Table

    from sisock.cli import show

    missed, seqs = 0, dict[str, int]()
    stale_after = _limits(consumer, node)

    def view() -> Table:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), caption_justify="left")
        for column, justify in (("field", "left"), ("value", "right"), ("", "left"), ("age", "right"), ("", "left")):
            table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        now = SYSTEM_CLOCK.now()
        for name, w in watched.items():
            age = "" if w.t is None else ago(now - w.t)
            stale = w.t is not None and now - w.t > stale_after.get(w.info.timeline, math.inf)
            shown = "" if w.t is None else show.value(w.value)
            table.add_row(
                printable(name),
                shown,
                "" if w.info.units == "1" else printable(w.info.units or ""),
                age,
                show.sparkline(w.past),
                style="dim" if stale else None,
            )
        parts = [f"{node}, Ctrl-C ends"] + ([f"missed {missed} batches"] if missed else [])
        table.caption = "; ".join(parts)
        return table

    with Live(view(), console=console, refresh_per_second=8, transient=False) as live:
        while not _enough(watched, count):
            batch = _next(updates, 0.5)
            if batch is not None:
                missed += batch.missed
                if batch.seq <= seqs.get(batch.timeline, 0):  # the node was restarted, perhaps with other units
                    for name, info in consumer.fields(node).items():
                        if name in watched and watched[name].info.units != info.units:
                            watched[name] = _Watched(info, seen=watched[name].seen)
                seqs[batch.timeline] = batch.seq
                for name in watched.keys() & batch.columns.keys():
                    watched[name].put(batch.t, batch[name])
            live.update(view())
