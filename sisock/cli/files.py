"""The command that writes samples to files: `export`."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.filesize import decimal

from sisock.cli.ask import Downsample, End, Json, MinStride, NodeName, Start, asking
from sisock.cli.places import SiteOption, find_access
from sisock.cli.tables import export_table
from sisock.cli.terminal import echo, make_console
from sisock.downsample import method_named
from sisock.errors import BadAnswer, BadRequest
from sisock.fields import Batch, Field, Samples, Timeline
from sisock.patterns import choose_fields
from sisock.recording import ENDINGS, RecordingWriter, create_recording, format_of, open_recording
from sisock.times import EARLIEST, SYSTEM_CLOCK, Interval, parse_span, parse_start, parse_time, resolve

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer, FieldInfo
    from sisock.consumer.pieces import Ask


Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File (.parquet, .csv, .h5, .hdf5), or a folder for one file per timeline.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(export)


def export(
    node: NodeName,
    output: Output,
    field: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD…", help="Names or patterns of fields, by default all; with --table, conditions."),
    ] = None,
    start: Start = "-1h",
    end: End = "0",
    min_stride: MinStride = None,
    max_points: Annotated[
        int | None,
        typer.Option(min=2, help="Maximum number of samples of each timeline; the node chooses the stride."),
    ] = None,
    downsample: Downsample = None,
    format: Annotated[str | None, typer.Option(help="parquet, csv or hdf5; by default from the file's suffix.")] = None,
    table: Annotated[
        str | None, typer.Option(help="Write rows of this table instead; the arguments are conditions on its rows.")
    ] = None,
    per_timeline: Annotated[
        bool, typer.Option("--per-timeline", help="Write one file per timeline, FILE-<timeline>.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Write samples of a node to a file, with units and gaps; the interval may have any length.

    Several timelines are one table, whose column `timeline` names them (in HDF5 a group each); with --per-timeline, or
    where FILE is a folder, each has a file of its own.

    A field whose units changed is a field for each of them, such as level [mm] and level [m].
    """
    from sisock.consumer import BlockingConsumer

    kind = _kind_of(output, format)
    if table is not None:
        _export_table(node, table, field or [], Path(output), kind, force=force, site=site, as_json=as_json)
        return
    how = _downsampling(downsample, min_stride, max_points)
    interval = resolve(parse_start(start), parse_time(end), SYSTEM_CLOCK.now())
    interval = Interval(max(interval.start, EARLIEST), max(interval.end, EARLIEST))
    # SIGTERM leaves as little behind as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with BlockingConsumer(find_access(site)) as consumer:
        consumer.show_progress = False  # one bar shows the whole export
        wanted = _wanted(consumer, node, field or [], interval)
        files = _files(output, kind, [each.timeline for each in wanted], per_timeline=per_timeline)
        infos = {each.timeline.name: each.infos for each in wanted}
        _check_free(files, force=force)
        filled: dict[str, int] = {}
        with _folder_beside(Path(output)) as folder, _Bar(node, interval, sum(map(len, files.values()))) as bar:
            for file, timelines in files.items():
                with create_recording(folder / file.name, kind, node=node, interval=interval) as recording:
                    for timeline in timelines:
                        each = _Wanted(timeline, infos[timeline.name])
                        _record(recording, each, _asking(consumer, node, each, how), interval, how, bar)
                filled |= recording.filled
            _move(folder, list(files))
    _report(node, interval, kind, list(files), filled, as_json=as_json)


def _export_table(
    node: str, name: str, conditions: Sequence[str], file: Path, kind: str, *, force: bool, site: Any, as_json: bool
) -> None:
    """Write rows of a table to a file, and report them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _check_free({file: []}, force=force)
    with asking(site) as consumer, _folder_beside(file) as folder:
        rows, columns = export_table(consumer, node, name, conditions, folder / file.name, kind)
        _move(folder, [file])
    size = file.stat().st_size
    if as_json:
        written = {"path": str(file), "format": kind, "bytes": size, "rows": rows, "columns": columns}
        typer.echo(json.dumps({"node": node, "table": name, **written}))
    else:
        echo(f"{file}: {decimal(size)}")
        echo(f"  {name}: {rows:,} rows of {', '.join(columns)}")


def _downsampling(method: str | None, min_stride: str | None, max_points: int | None) -> dict[str, Any]:
    """Return the arguments of a request that say how it is downsampled."""
    stride = None if min_stride is None else parse_span(min_stride)
    if method is not None:
        method_named(method, "--downsample")
    if method and not stride and not max_points:
        raise BadRequest("--downsample needs --min-stride or --max-points")
    return {"min_stride": stride, "max_points": max_points, "downsample": method}


# Fields times timelines of one table: each timeline has row groups of its own, with the columns of all.
_MOST_COLUMNS = 10_000


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A timeline of the recording, and the fields of the node that it contains."""

    timeline: Timeline
    infos: "Sequence[FieldInfo]"


def _wanted(consumer: "BlockingConsumer", node: str, patterns: Sequence[str], interval: Interval) -> list[_Wanted]:
    """Return the timelines with samples in the interval, each with its selected fields."""
    there = consumer.fields(node, *interval)
    meant = choose_fields(node, patterns, consumer.fields(node)) if patterns else there
    names = [name for name in meant if name in there]
    if not names:
        what = f"of {', '.join(patterns)} " if patterns else ""
        raise BadRequest(f"node {node} has no samples {what}in that interval; `sisock fields {node}` lists its fields")
    by_timeline: dict[str, list[FieldInfo]] = {}
    for name in names:
        by_timeline.setdefault(there[name].timeline, []).append(there[name])
    return [
        _Wanted(Timeline(name, [field for info in infos for field in _fields_of(info)], infos[0].interval_s), infos)
        for name, infos in by_timeline.items()
    ]


def _fields_of(info: "FieldInfo") -> Iterator[Field]:
    """Yield a field as recorded: one field for each unit that it had."""
    for label, then in info.columns.items():
        # A missing bool would be false in a file; a missing number is NaN.
        is_split_bool = then.type == "bool" and len(info.columns) > 1
        yield Field(label, "number" if is_split_bool else then.type, then.units, info.description)


def _kind_of(output: str, format: str | None) -> str:
    """Return the format of the files: by `--format`, by the file's suffix, or Parquet in a folder."""
    return format_of(output, format or ("parquet" if _is_folder(output) else None))


def _is_folder(output: str) -> bool:
    return output.endswith(os.sep) or Path(output).is_dir()


def _files(output: str, kind: str, timelines: list[Timeline], *, per_timeline: bool) -> dict[Path, list[Timeline]]:
    """Return the timelines of each file: all in one file, or one file per timeline with its name."""
    path, is_folder = Path(output), _is_folder(output)
    if not is_folder and not (per_timeline and len(timelines) > 1):
        fields = sum(len(timeline.fields) for timeline in timelines)
        if kind != "hdf5" and len(timelines) > 1 and len(timelines) * fields > _MOST_COLUMNS:
            raise BadRequest(
                f"{len(timelines)} timelines with {fields} fields are too many for one table; give a folder "
                f"(-o {path.stem}{os.sep}) or --per-timeline, for a file each, or name fields"
            )
        return {path: timelines}
    ending = next(each for each, of in ENDINGS.items() if of == kind)
    files: dict[Path, list[Timeline]] = {}
    for timeline in timelines:
        safe = re.sub(r"[^\w.+-]", "_", timeline.name)[:100]
        stem = safe if is_folder else f"{path.stem}-{safe}"
        names = [f"{stem}{'' if number == 1 else f'-{number}'}" for number in range(1, len(timelines) + 1)]
        free = (path / f"{n}{ending}" if is_folder else path.with_name(f"{n}{path.suffix}") for n in names)
        files[next(each for each in free if each not in files)] = [timeline]
    return files


def _check_free(files: dict[Path, list[Timeline]], *, force: bool) -> None:
    for file in files:
        if file.is_dir():
            raise BadRequest(f"{file} is a folder; give another name")
        if file.exists() and not force:
            raise BadRequest(f"{file} exists already; give another name, or --force to overwrite it")


@contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """Provide a temporary folder on the file system of `output`."""
    try:
        # A folder may be a mount point, to which no file can be moved from its parent.
        within = output if output.is_dir() else output.parent
        folder = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=within)
    except OSError as error:
        raise BadRequest(f"cannot write to folder {within}: {error.strerror}") from error
    with folder as name:
        yield Path(name)


def _move(folder: Path, files: Sequence[Path]) -> None:
    """Move the complete files to their destination."""
    try:
        for file in files:
            with (folder / file.name).open("rb") as written:
                os.fsync(written.fileno())
        for file in files:
            file.parent.mkdir(exist_ok=True)
            (folder / file.name).replace(file)
    except OSError as error:
        raise BadRequest(f"cannot write {file}: {error.strerror}") from error


def _asking(consumer: "BlockingConsumer", node: str, wanted: _Wanted, thin: dict[str, Any]) -> "Ask":
    names, timeline = [info.name for info in wanted.infos], wanted.timeline

    def ask(start: float, end: float) -> Samples | None:
        found = consumer.data(node, names, start, end, **thin).timelines
        if found.keys() - {timeline.name}:
            raise BadAnswer(f"node {node!r} lists {names[0]!r} on {timeline.name!r}, but answers with {[*found]}")
        return found.get(timeline.name)

    return ask


def _record(
    recording: RecordingWriter, wanted: _Wanted, ask: "Ask", interval: Interval, thin: dict[str, Any], bar: "_Bar"
) -> None:
    """Write all samples of a timeline."""
    from sisock.consumer.pieces import pieces

    timeline = wanted.timeline
    recording.append(timeline, Batch(timeline.name, np.empty(0), {}))
    if thin["max_points"]:  # downsampled by the node, which chooses the stride from the whole interval
        found: Iterator[tuple[Samples | None, float]] = iter([(ask(*interval), interval.end)])
    else:
        found = pieces(ask, interval, thin["min_stride"] or 0.0, whole_bins=thin["downsample"] != "first")
    for piece, until in found:
        if piece is not None:
            columns = {label: values for info in wanted.infos for label, values in info.values_in(piece).items()}
            recording.append(timeline, Batch(timeline.name, piece.t, columns), piece.gaps)
        bar.moved(until, 0 if piece is None else len(piece.t))
    bar.next_timeline()


class _Bar:
    """A progress bar on stderr, if that is a terminal."""

    def __init__(self, node: str, interval: Interval, timelines: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        stderr = make_console(stderr=True)
        self._interval, self._done, self._rows = interval, 0.0, 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rows]:,} samples"),
            TimeRemainingColumn(),
            console=stderr,
            disable=not stderr.is_terminal,
            transient=True,
        )
        total = timelines * (interval.end - interval.start)
        self._task = self._progress.add_task(f"asking {node}", total=total, rows=0)

    def moved(self, until: float, rows: int) -> None:
        """Show that a timeline is written up to a time, with so many more samples."""
        self._rows += rows
        self._progress.update(self._task, completed=self._done + until - self._interval.start, rows=self._rows)

    def next_timeline(self) -> None:
        """Begin with another timeline."""
        self._done += self._interval.end - self._interval.start

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()


def _report(
    node: str, interval: Interval, kind: str, files: Sequence[Path], filled: dict[str, int], *, as_json: bool
) -> None:
    """Print the contents of the written files, as the files themselves describe them."""
    written: list[dict[str, Any]] = []
    for file in files:
        with open_recording(file, kind) as recording:
            timelines = [
                {
                    "timeline": timeline.name,
                    "fields": [field.name for field in timeline.fields],
                    "samples": recording.samples(timeline.name),
                    "gaps": len(recording.gaps(timeline.name)),
                }
                for timeline in recording.timelines
            ]
        written.append({"path": str(file), "format": kind, "bytes": file.stat().st_size, "timelines": timelines})
    if as_json:
        typer.echo(json.dumps({"node": node, "interval": interval, "files": written, "filled": filled}))
        return
    for each in written:
        echo(f"{each['path']}: {decimal(each['bytes'])}")
        for timeline in each["timelines"]:
            samples, fields = f"{timeline['samples']:,} samples", ", ".join(timeline["fields"][:5])
            more = f" and {n} more" if (n := len(timeline["fields"]) - 5) > 0 else ""
            gaps = f"; gaps: {timeline['gaps']}" if timeline["gaps"] else ""
            echo(f"  {timeline['timeline']}: {samples} of {fields}{more}{gaps}")
    for name, number in filled.items():
        echo(f'{name}: {number} missing values are written as false or ""', err=True)
