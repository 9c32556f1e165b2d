"""A table in a folder that cannot be used yet: the others are served meanwhile."""

import logging
from collections.abc import Callable, Sequence

from sisock.errors import SisockError
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.outage import Health, OutageLog
from sisock.source import Emit, InThread, Reporting
from sisock.times import Clock

log = logging.getLogger(__name__)


class AwaitedTable(InThread):
    """Looks again and again whether a table can be used, and then is its source.

    Parameters
    ----------
    name : str
        Of the table, in its health.
    make : callable
        Returns the source of the table; None if another source has it by now. Raises OSError or SisockError while the
        table cannot be used.
    error : Exception
        Why it cannot be used now.
    reread : float
        Seconds between looks.
    clock : Clock
    """

    def __init__(
        self, name: str, make: Callable[[], Reporting | None], error: Exception, reread: float, clock: Clock
    ) -> None:
        super().__init__(f"table {name}")
        self._name, self._make, self._reread, self._clock = f"table {name}", make, reread, clock
        self._counters, self._outages = Counters("failures"), OutageLog(clock, log)
        self._source: Reporting | None = None
        self._failed(error)

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines of the table; none while it cannot be used."""
        return self._source.timelines if self._source else ()

    @property
    def counters(self) -> Counters:
        """Those of the table; ``failures`` alone while it cannot be used."""
        return self._source.counters if self._source else self._counters

    def status(self) -> Health:
        """Return why the table cannot be used, or how it is."""
        return self._source.status() if self._source else self._outages.health()

    def stop(self) -> None:
        """Stop looking and reading."""
        super().stop()
        if self._source is not None:
            self._source.stop()

    def _run(self, emit: Emit) -> None:
        while not self._stop.is_set():
            try:
                source = self._make()
                for timeline in source.timelines if source else ():
                    emit.add(timeline)
            except (OSError, SisockError) as error:
                self._failed(error)
            else:
                self._outages.recovered(self._name)
                if source is not None:
                    source.start(emit)
                    self._source = source
                return
            self._clock.wait(self._stop, self._reread)

    def _failed(self, error: Exception) -> None:
        self._counters.add("failures")
        self._outages.failed(self._name, error)
