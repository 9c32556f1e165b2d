"""The commands about histories on disk: `import` and `history`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import track

from sisock.cli.ask import Json
from sisock.cli.terminal import echo, make_console
from sisock.history import open_history
from sisock.recording import open_recording
from sisock.site import HistorySettings
from sisock.times import Interval, iso

_EVER = Interval(-1e18, 1e18)
# What is put into an archive by hand is not removed by itself.
_NO_LIMIT = 2**62


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import")(import_files)
    app.command()(history)


def import_files(
    file: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings: .parquet, .csv, .h5 or .hdf5.")],
    into: Annotated[Path, typer.Option("--into", metavar="FOLDER", help="Folder of a history that no node runs on.")],
    as_json: Json = False,
) -> None:
    """Put recordings into a history on disk, as the past of its timelines; all of a timeline or nothing of it."""
    from sisock.history.store import Store

    store = Store(HistorySettings(path=into, max_size=_NO_LIMIT), ())
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
                        escape(f"{path.name}: {timeline.name}"),
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
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a history, also of one that is in use.")],
    as_json: Json = False,
) -> None:
    """Show what the history in a folder holds; it is only read."""
    from sisock.cli.show import table

    with open_history(folder) as opened:
        status, summary = opened.status(), opened.summary()
        fields = {timeline.name: timeline.fields for timeline in opened.within(_EVER)}
        for name, each in fields.items():
            # Those that are there; the history counts what has come since it was opened, and a value has its time.
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
