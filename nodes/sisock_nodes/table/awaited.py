"""A table in a folder that cannot be used yet: the others are served meanwhile."""

import logging
import threading
from collections.abc import Callable, Sequence

from sisock.errors import SisockError
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.outage import Health, OutageLog
from sisock.source import Emit, Source
from sisock.times import Clock

log = logging.getLogger(__name__)


class AwaitedTable:
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
        self, name: str, make: Callable[[], Source | None], error: Exception, reread: float, clock: Clock
    ) -> None:
        self._name, self._make, self._reread, self._clock = f"table {name}", make, reread, clock
        self._counters, self._outages = Counters("failures"), OutageLog(clock, log)
        self._source: Source | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
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
        source = self._source
        return source.status() if source else self._outages.health()  # type: ignore[attr-defined]

    def start(self, emit: Emit) -> None:
        """Look until the table can be used, then read it."""
        self._thread = threading.Thread(target=self._run, args=(emit,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking and reading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
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
            self._clock.wait(self._clock.now() + self._reread, self._stop)

    def _failed(self, error: Exception) -> None:
        self._counters.add("failures")
        self._outages.failed(self._name, error)
