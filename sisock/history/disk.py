"""The outage of a disk: it begins when something cannot be written, and ends when all of that can be."""

from pathlib import Path

from sisock.outage import OutageLog


class DiskOutage:
    """Reports what of a history cannot be written at present as one outage.

    Parameters
    ----------
    path : Path
        The folder of the history.
    outages : OutageLog
    """

    def __init__(self, path: Path, outages: OutageLog) -> None:
        self._key, self._outages = f"the disk of the history in {path}", outages
        self._failing: set[str] = set()

    def failing(self, what: str) -> bool:
        """Whether something cannot be written at present."""
        return what in self._failing

    def failed(self, what: str, error: object) -> None:
        """Report that something cannot be written."""
        self._failing.add(what)
        self._outages.failed(self._key, f"{what}: {error}")

    def works(self, what: str) -> None:
        """Report that something can be written."""
        if what in self._failing:
            self._failing.discard(what)
            if not self._failing:
                self._outages.recovered(self._key)
