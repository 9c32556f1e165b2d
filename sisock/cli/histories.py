"""The commands about histories on disk: `import` and `history`."""

import json
import math
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import track

from sisock.cli.ask import Json
from sisock.cli.terminal import echo, make_console
from sisock.errors import BadRequest
from sisock.history import Reset, open_history
from sisock.printable import printable
from sisock.recording import open_recording
from sisock.settings import HistorySettings
from sisock.times import Interval, iso, parse_time, sisock_to_unix_time

_EVER = Interval(-1e18, 1e18)
# Retention does not apply to samples that were imported by hand.
_NO_LIMIT = 2**62


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import")(import_files)
    app.command()(history)


def import_files(
    file: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings: .parquet, .csv, .h5 or .hdf5.")],
    into: Annotated[Path, typer.Option("--into", metavar="FOLDER", help="Folder of a history without a running node.")],
    as_json: Json = False,
) -> None:
    """Add recordings to a history on disk, as the past of its timelines: each timeline in full or not at all."""
    from sisock.history.store import Store

    store = Store(HistorySettings(path=into, max_size=_NO_LIMIT), (), in_background=False)
    imported: list[dict[str, Any]] = []
    try:
        for path in file:
            with open_recording(path) as recording:
                for timeline in recording.timelines:
                    # 100,000 samples in each step.
                    steps = -(-recording.samples(timeline.name) // 100_000)
                    stderr = make_console(stderr=True)
                    batches = track(
                        recording.batches(timeline.name),
                        escape(printable(f"{path.name}: {timeline.name}")),
                        total=steps,
                        console=stderr,
                        disable=as_json or not stderr.is_terminal,
                        transient=True,
                    )
                    samples = store.insert(timeline, batches)
                    imported.append({"file": str(path), "timeline": timeline.name, "samples": samples})
                    if not as_json:
                        echo(f"{path}: {samples:,} samples of {timeline.name}")
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps(imported))


def history(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a history; its node may be running.")],
    clock: Annotated[bool, typer.Option("--clock", help="Show the record of the clock instead.")] = False,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="List the quarantine instead.")] = False,
    drop_after: Annotated[
        str | None,
        typer.Option("--drop-after", metavar="TIME", help="Quarantine the samples from TIME on; stop the node first."),
    ] = None,
    timeline: Annotated[list[str] | None, typer.Option("--timeline", help="Only this timeline; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what --drop-after would quarantine.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Show the contents of the history in a folder; with --drop-after, quarantine samples of a clock that was ahead."""
    if clock:
        _show_clock(folder, as_json=as_json)
    elif quarantined:
        _show_quarantined(folder, as_json=as_json)
    elif drop_after is not None:
        _drop_after(folder, drop_after, timeline, dry_run=dry_run, yes=yes, as_json=as_json)
    else:
        _show(folder, as_json=as_json)


def _show(folder: Path, *, as_json: bool) -> None:
    from sisock.cli.show import table

    with open_history(folder) as opened:
        status, summary = opened.status(), opened.summary()
        fields = {timeline.name: timeline.fields for timeline in opened.within(_EVER)}
        for name, each in fields.items():
            # The number of stored values; the history itself counts only since it was opened.
            status[name]["samples"] = opened.count([each[0].name], _EVER) // 2
    if as_json:
        told = {name: [f.name for f in each] for name, each in fields.items()}
        typer.echo(json.dumps({**summary, "timelines": status, "fields": told}))
        return
    console = make_console()
    rows = [
        [
            name,
            str(len(fields.get(name, ()))),
            f"{line['samples']:,}",
            iso(line["oldest"]) if line["oldest"] is not None else "",
            iso(line["newest"]) if line["newest"] is not None else "",
            iso(line["finalized_until"]) if line["finalized_until"] is not None else "",
            f"{line['segments']} ({line['sealed']} sealed)",
            decimal(line["bytes"]),
        ]
        for name, line in status.items()
    ]
    headings = ["timeline", "fields", "samples", "oldest (UTC)", "newest (UTC)", "final until", "segments", "size"]
    table(console, headings, rows, right=(1, 2, 7))
    for at, seconds in summary["clock_jumps"]:
        console.print(f"the clock jumped by {seconds:+.1f} s at {iso(at)}", style="yellow")


def _show_clock(folder: Path, *, as_json: bool) -> None:
    """Show the clock epochs of a history."""
    from sisock.cli.show import table

    with open_history(folder) as opened:
        epochs = opened.summary()["clock_epochs"]
    if as_json:
        typer.echo(json.dumps(epochs))
        return
    known = {None: "unknown", True: "yes", False: "no"}
    rows = [
        [
            iso(epoch["wall"]),
            f"{epoch['monotonic']:.1f}",
            epoch["boot"] or "",
            known[epoch["synchronised"]],
            f"until {iso(epoch['ahead_until'])}" if epoch["ahead_until"] is not None else "",
        ]
        for epoch in epochs
    ]
    headings = ["since (UTC)", "monotonic [s]", "boot", "synchronised", "was ahead (UTC)"]
    table(make_console(), headings, rows, right=(1,))


def _show_quarantined(folder: Path, *, as_json: bool) -> None:
    """List the quarantine of a history."""
    from sisock.cli.show import table
    from sisock.history.quarantine import list_quarantined

    files = list(list_quarantined(folder))
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "path": str(each.path)} for each in files]))
        return
    rows = [
        [
            str(each.path),
            each.timeline or "(damaged)",
            f"{each.samples:,}" if each.timeline else "",
            iso(each.span.start) if each.span else "",
            iso(each.span.end) if each.span else "",
            decimal(each.bytes),
        ]
        for each in files
    ]
    table(make_console(), ["file", "timeline", "samples", "oldest (UTC)", "newest (UTC)", "size"], rows, right=(2, 5))


def _drop_after(
    folder: Path, time: str, timelines: list[str] | None, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Quarantine the samples of a history from a time on, after showing them and asking."""
    from sisock.cli.show import table
    from sisock.history.store import Store

    since = sisock_to_unix_time(parse_time(time))
    if as_json and not (yes or dry_run):
        raise BadRequest("--json cannot ask for confirmation; add --yes, or --dry-run to see the samples")
    there = _samples_from(folder, since, timelines)
    if not as_json:
        rows = [[name, f"{n:,}", iso(first), iso(last)] for name, (n, first, last) in there.items()]
        table(make_console(), ["timeline", "samples", "oldest (UTC)", "newest (UTC)"], rows, right=(1,))
    moved = dict.fromkeys(there, 0)
    if there and not dry_run:
        # First, since opening fails while a node writes there.
        with closing(Store(HistorySettings(path=folder, max_size=_NO_LIMIT), ())) as store:
            if not yes:
                typer.confirm(f"Quarantine these samples, from {iso(since)} on?", abort=True, err=True)
            for name in there:
                number = 1 + store.manifest.reset(store.manifest.number(name))
                moved[name] = store.set_back(name, Reset(number, -math.inf, since))
    if as_json:
        found = {
            name: {"samples": n, "oldest": first, "newest": last, "quarantined": moved[name]}
            for name, (n, first, last) in there.items()
        }
        typer.echo(json.dumps({"from": since, "timelines": found}))
    elif not there:
        echo(f"there are no samples from {iso(since)} on")
    elif not dry_run:
        echo(f"{sum(moved.values()):,} samples are quarantined; sisock history {folder} --quarantined lists them")


def _samples_from(folder: Path, since: float, timelines: list[str] | None) -> dict[str, tuple[int, float, float]]:
    """Return the number of samples from a time on, and the times of the first and the last, by timeline."""
    interval, there = Interval(since, _EVER.end), {}
    with open_history(folder) as opened:
        status = opened.status()
        if unknown := set(timelines or ()) - status.keys():
            raise BadRequest(f"there is no timeline {min(unknown)!r} in {folder}; there are: {', '.join(status)}")
        for timeline in opened.within(interval):
            if timelines is None or timeline.name in timelines:
                names = [timeline.fields[0].name]
                first = opened.downsampled(names, interval, "first", math.inf).timelines[timeline.name]
                samples = opened.count(names, interval) // 2
                there[timeline.name] = samples, float(first.t[0]), status[timeline.name]["newest"]
    return there
