"""The file in which a node keeps its alarms: their states, and definitions that came by command."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sisock.alarm.state import OUT_OF_SERVICE, State
from sisock.files import make_folder, sync_folder, write_whole
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.times import FARTHEST_S, Clock
from sisock.worker import Worker

# Seconds for which changes are gathered before they are written, unless a caller waits for them.
_GATHER_S = 0.5
# Seconds between attempts while the disk does not take the file, and for which a caller waits for it.
_RETRY_S, _PATIENCE_S = 5.0, 5.0
_IDLE_S = 3600.0


class StoredAlarm(BaseModel):
    """State of an alarm in the file; the keys are those of `Alarms.list`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    state: State
    since: float
    active: bool
    latched: bool = False
    until: float | None = None
    raised: float | None = None
    value: bool | int | float | str | None = None
    units: str | None = None
    by: str | None = None
    comment: str | None = None

    @model_validator(mode="after")
    def _has_end(self) -> Self:
        if self.state in OUT_OF_SERVICE and (self.until is None or self.until > FARTHEST_S):
            raise ValueError(f"it is {self.state} without an end, so that nobody would be notified of it any more")
        return self


class Stored(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    definitions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Alarms that were set by command."""
    alarms: dict[str, StoredAlarm] = Field(default_factory=dict)


class AlarmFile:
    """Reads the file, and writes it in a thread of its own, whole and synced.

    Parameters
    ----------
    path : Path
    content : callable
        Returns the content to be written; called in the thread.
    clock : Clock
    outages : OutageLog
        Where a disk that does not take the file is reported.
    """

    def __init__(self, path: Path, content: Callable[[], Mapping[str, Any]], clock: Clock, outages: OutageLog) -> None:
        self.path, self.counters = path, Counters("written", "failures")
        self._content, self._clock, self._outages = content, clock, outages
        self._key = f"the alarm file {path}"
        self._changed, self._hurried = threading.Event(), threading.Event()
        self._done = threading.Condition()
        self._writing = threading.Lock()
        self._changes = self._written = self._attempted = 0
        self._worker = Worker(f"write {path.name}", self._run, wake=self._wake)

    def read(self) -> tuple[Stored, str | None]:
        """Return the content of the file, empty without one, and the error for which it was quarantined, if any."""
        try:
            text = self.path.read_text(encoding="utf-8")
            return Stored.model_validate(json.loads(text)), None
        except FileNotFoundError:
            return Stored(), None
        except OSError as error:
            self._outages.failed(self._key, error)
            return Stored(), f"{self.path} cannot be read: {error.strerror}; all alarms begin as normal"
        except (ValueError, RecursionError) as error:  # ValidationError, JSONDecodeError, UnicodeDecodeError among them
            return Stored(), self._quarantine(error)

    def _quarantine(self, error: Exception) -> str:
        problems = error.errors(include_url=False) if isinstance(error, ValidationError) else ()
        why = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems[:3]) or str(error)
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        try:
            self.path.rename(aside)
            sync_folder(self.path.parent)
        except OSError as failure:
            self._outages.failed(self._key, failure)
        return f"{self.path} is damaged ({why}), and is quarantined as {aside.name}; all alarms begin as normal"

    def start(self) -> None:
        """Begin to write changes; once more does nothing."""
        if not self._worker.is_alive:
            self._worker.start()

    def stop(self) -> None:
        """Write what has changed, and end the thread."""
        self._worker.stop()
        self._write()

    def changed(self) -> None:
        """Have the file written soon; does not wait."""
        with self._done:
            self._changes += 1
        self._changed.set()

    def save(self) -> bool:
        """Wait until all changes so far are on the disk; return whether they are, which a failing disk prevents."""
        if not self._worker.is_alive:
            return self._write()
        with self._done:
            wanted = self._changes
            self._wake()
            self._done.wait_for(lambda: max(self._written, self._attempted) >= wanted, _PATIENCE_S)
            return self._written >= wanted

    def _wake(self) -> None:
        self._hurried.set()
        self._changed.set()

    def _run(self) -> None:
        wait_s = _GATHER_S
        while not self._worker.stopping.is_set():
            self._clock.wait(self._changed, _IDLE_S)
            self._clock.wait(self._hurried, wait_s)
            self._changed.clear()
            self._hurried.clear()
            wait_s = _GATHER_S
            if not self._write():
                self._changed.set()
                wait_s = _RETRY_S

    def _write(self) -> bool:
        """Write the file if it has changed; return whether it is as it should be."""
        with self._writing:
            changes = self._changes
            if changes == self._written:
                return True
            try:
                make_folder(self.path.parent, sync=True)
                write_whole(self.path, json.dumps(self._content(), indent=1))
            except OSError as error:
                self.counters.add("failures")
                self._outages.failed(self._key, error)
                is_written = False
            else:
                self.counters.add("written")
                self._outages.recovered(self._key)
                is_written = True
            with self._done:
                self._attempted = changes
                self._written = changes if is_written else self._written
                self._done.notify_all()
            return is_written
