"""Recordings as sources: all samples of the files, once."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sisock.errors import BadData, SisockError
from sisock.fields import Batch, Timeline
from sisock.metrics import Counters
from sisock.recording import ENDINGS, format_of, open_recording
from sisock.source import Emit, InThread, Source
from sisock_nodes.file.settings import FileSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    """A timeline of one file."""

    file: Path
    timeline: Timeline
    samples: int

    @property
    def kind(self) -> tuple[object, ...]:
        """The key of the timeline: parts with the same key are one."""
        return self.timeline.name, *((field.name, field.type, field.units) for field in self.timeline.fields)

    def first_time(self) -> float:
        """Return when it begins, in UNIX seconds; infinite when it has no samples."""
        with open_recording(self.file) as recording:
            first = next(recording.batches(self.timeline.name, rows=1), None)
        return float(first.t[0]) if first is not None else math.inf


def file_sources(settings: FileSettings) -> Sequence[Source]:
    """Return a source for each timeline of the recordings at the settings' path.

    Raises
    ------
    BadData
        If there is no recording, or one cannot be read.
    """
    groups: dict[tuple[object, ...], list[_Part]] = {}
    for file in _files(settings.path):
        for part in _parts(file):
            groups.setdefault(part.kind, []).append(part)
    # A name that means several things is told apart by its file; all others stay as they were recorded.
    timelines = Counter(group[0].timeline.name for group in groups.values())
    fields = Counter(field.name for group in groups.values() for field in group[0].timeline.fields)
    sources = []
    for group in groups.values():
        timeline = group[0].timeline
        unique = timelines[timeline.name] == 1 and all(fields[field.name] == 1 for field in timeline.fields)
        prefix = "" if unique else f"{group[0].file.stem}."
        source = FileSource(group, prefix)
        _warn_of_loss(source, sum(part.samples for part in group), settings)
        sources.append(source)
    return sources


def _files(path: Path) -> list[Path]:
    if path.is_file():
        format_of(path)
        return [path]
    if not path.exists():
        raise BadData(f"there is no file or folder {path}; set `path` to the recording")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        raise BadData(f"folder {path} has no files that end with {', '.join(ENDINGS)}")
    return files


def _parts(file: Path) -> list[_Part]:
    with open_recording(file) as recording:
        if recording.left_out:
            log.warning(
                "%s: columns that are not numbers, bools or strings are left out: %s",
                *(file, ", ".join(recording.left_out)),
            )
        return [_Part(file, timeline, recording.samples(timeline.name)) for timeline in recording.timelines]


def _warn_of_loss(source: "FileSource", samples: int, settings: FileSettings) -> None:
    most = settings.history.max_samples
    if samples > most and settings.history.path is None:
        log.warning(
            "timeline %s has %d samples, and `history.max_samples` is %d: only the newest will be served",
            *(source.timelines[0].name, samples, most),
        )


class FileSource(InThread):
    """One timeline, of one file or of several that follow each other.

    Parameters
    ----------
    parts : sequence of _Part
        At least one; all of one kind.
    prefix : str
        Before the names of the timeline and its fields.
    """

    def __init__(self, parts: Sequence[_Part], prefix: str = "") -> None:
        super().__init__("file")
        self.counters = Counters("rows", "filled", "failures")
        # They are emitted in the order of their times: what comes after later samples would be late.
        self._parts = sorted(parts, key=_Part.first_time) if len(parts) > 1 else list(parts)
        self._prefix = prefix
        recorded = self._parts[0].timeline
        fields = [replace(field, name=prefix + field.name) for field in recorded.fields]
        self.timelines: Sequence[Timeline] = (replace(recorded, name=prefix + recorded.name, fields=fields),)

    def _run(self, emit: Emit) -> None:
        for part in self._parts:
            try:
                self._emit_all(part, emit)
            except SisockError as error:
                self.counters.add("failures")
                log.error("%s; what was before that is served", error.message)
            except Exception:
                self.counters.add("failures")
                log.exception("reading %s failed; what was before that is served", part.file)

    def _emit_all(self, part: _Part, emit: Emit) -> None:
        with open_recording(part.file) as recording:
            for batch in recording.batches(part.timeline.name):
                if self._stop.is_set():
                    return
                emit(self._renamed(batch))
                self.counters.add("rows", len(batch))
            if recording.filled:
                self.counters.add("filled", recording.filled)
                log.warning('%s: %d missing bools and strings are served as false and ""', part.file, recording.filled)

    def _renamed(self, batch: Batch) -> Batch:
        columns = {self._prefix + name: values for name, values in batch.columns.items()}
        return replace(batch, timeline=self.timelines[0].name, columns=columns)
