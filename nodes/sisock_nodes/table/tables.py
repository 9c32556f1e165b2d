"""The tables at a path, and a source for each."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sisock.errors import BadData, SisockError
from sisock.source import Reporting, Source
from sisock.times import Clock
from sisock_nodes.table.awaited import AwaitedTable
from sisock_nodes.table.header import header_of
from sisock_nodes.table.settings import TableSettings
from sisock_nodes.table.source import TableSource


def table_sources(settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for each table at the settings' path.

    Raises
    ------
    BadData
        If there is none, or none has a header that can be used.
    """
    path = settings.path
    if not path.exists():
        raise BadData(f"there is no file or folder {path}; set `path` to the table")
    if path.is_file():
        return [TableSource(path.stem, "", lambda: [path], settings, clock)]
    files = _tables_in(path)
    if not files:
        raise BadData(f"folder {path} has no *.csv or *.tsv files")
    return _together(files, settings, clock) if settings.together else _apart(files, settings, clock)


def _apart(files: Sequence[Path], settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for each file; one that cannot be used yet costs itself."""
    made: dict[Path, Source] = {}
    failed: dict[Path, Exception] = {}
    for file in files:
        try:
            made[file] = _table_of(file, settings, clock)
        except (OSError, BadData) as error:
            failed[file] = error
    if not made:
        raise _unusable(failed)
    for file, why in failed.items():
        again = partial(_table_of, file, settings, clock)
        made[file] = AwaitedTable(file.stem, again, why, settings.reread, clock)
    return [made[file] for file in files]


def _table_of(file: Path, settings: TableSettings, clock: Clock) -> Reporting:
    return TableSource(file.stem, f"{file.stem}.", lambda: [file], settings, clock)


def _together(files: Sequence[Path], settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for the files of each header, and one for each file that has none yet."""
    groups: dict[tuple[str, ...], Path] = {}
    failed: dict[Path, Exception] = {}
    for file in files:
        try:
            groups.setdefault(tuple(header_of(file, settings)), file)
        except (OSError, BadData) as error:
            failed[file] = error
    if not groups:
        raise _unusable(failed)

    def later(file: Path) -> Reporting | None:
        header = tuple(header_of(file, settings))
        if groups.setdefault(header, file) != file:
            return None  # the source of that header has it by now
        return TableSource(file.stem, f"{file.stem}.", _alike(settings.path, header, settings), settings, clock)

    made: list[Source] = [
        TableSource(
            first.stem,
            f"{first.stem}." if len(groups) > 1 else "",
            _alike(settings.path, header, settings),
            settings,
            clock,
        )
        for header, first in groups.items()
    ]
    waiting = [
        AwaitedTable(file.stem, partial(later, file), why, settings.reread, clock) for file, why in failed.items()
    ]
    return [*made, *waiting]


def _unusable(failed: dict[Path, Exception]) -> BadData:
    """Return the error of a folder none of whose tables can be used: that of the first."""
    file, error = next(iter(failed.items()))
    return error if isinstance(error, BadData) else BadData(f"{file} cannot be read: {error}")


def _tables_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in (".csv", ".tsv"))


def _alike(folder: Path, header: tuple[str, ...], settings: TableSettings) -> Callable[[], list[Path]]:
    """Return a function that lists the files with that header; each file is read once."""
    headers: dict[Path, tuple[str, ...]] = {}

    def files() -> list[Path]:
        found = _tables_in(folder)
        for file in found:
            if file not in headers:
                try:
                    headers[file] = tuple(header_of(file, settings))
                except (SisockError, FileNotFoundError):
                    continue  # still being begun, or gone already
        return [file for file in found if headers.get(file) == header]

    return files
