"""Gaps and losses in a file beside the segments of their timeline, which outlives both copies of the journal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sisock.history.journal import Change, Journal

LOSSES = "losses"
"""Name of the file."""
_REPEATED = ("gap", "losses", "known_losses", "cut_gaps", "expire_gaps", "expire_losses")


def timeline_files(folder: Path, name: str = "*") -> Iterator[Path]:
    """Yield the files in the folders of timelines; other files in the folder of a history are ignored."""
    return (
        path
        for path in folder.glob(f"[0-9]*/{name}")
        if (number := path.parent.name).isascii() and number.isdigit() and number == f"{int(number):04d}"
    )


class LossFiles:
    """The files of all timelines of a history.

    Parameters
    ----------
    folder : Path
        Of the history.
    rows : callable
        Returns the gaps and losses of a timeline, by its number, as changes.
    """

    def __init__(self, folder: Path, rows: Callable[[int], list[Change]]) -> None:
        self._folder, self._rows = folder, rows
        self._journals: dict[int, Journal] = {}

    def read(self) -> list[Change]:
        """Return all gaps and losses, as changes that may be made twice."""
        found: list[Change] = []
        for path in timeline_files(self._folder, LOSSES):
            spans: dict[tuple[int, int], list[int]] = {}
            gaps: dict[tuple[int, float, float], None] = {}
            for name, values in Journal(path.parent, (LOSSES,)).read():
                if values[0] != int(path.parent.name):  # the folder is another timeline's, copied from elsewhere
                    continue
                if name == "gap":
                    gaps[values[0], values[1], values[2]] = None
                elif name == "cut_gaps":
                    gaps = {gap: None for gap in gaps if gap[2] < values[1]}
                elif name == "expire_gaps":
                    gaps = {gap: None for gap in gaps if gap[2] >= values[1]}
                elif name == "expire_losses":
                    spans = {key: counts for key, counts in spans.items() if key[1] >= values[1]}
                else:
                    timeline, span, *counts = values
                    known, add = spans.setdefault((timeline, span), [0, 0]), name == "losses"
                    known[:] = [a + b if add else max(a, b) for a, b in zip(known, counts, strict=True)]
            found += [("gap", list(gap)) for gap in gaps]
            found += [("known_losses", [*key, *counts]) for key, counts in spans.items()]
        return found

    def append(self, changes: Sequence[Change]) -> None:
        """Write those of some changes that are gaps and losses.

        Raises
        ------
        OSError
            If the disk does not take them.
        """
        for name, values in changes:
            if name not in _REPEATED or not (folder := self._folder / f"{values[0]:04d}").exists():
                continue
            journal = self._journals.get(values[0])
            if journal is None:
                journal = self._journals[values[0]] = Journal(folder, (LOSSES,))
                journal.read()
                journal.resume()
                if journal.damaged:
                    journal.rewrite(self._rows(values[0]), durable=False)
            journal.append([(name, values)])

    def rewrite(self, timelines: Iterable[int]) -> None:
        """Write the files of some timelines, and of those that were appended to, as a whole.

        Raises
        ------
        OSError
            If the disk does not take them.
        """
        for timeline in {*timelines, *self._journals}:
            if (folder := self._folder / f"{timeline:04d}").exists():
                journal = self._journals.setdefault(timeline, Journal(folder, (LOSSES,)))
                journal.rewrite(self._rows(timeline), durable=False)

    def close(self) -> None:
        """Close the files."""
        for journal in self._journals.values():
            journal.close()
