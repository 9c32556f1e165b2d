"""The sites that this user runs: `sisock up` records them, so that other programs find them."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from sisock.errors import BadRequest
from sisock.files import write_whole
from sisock.printable import printable
from sisock.times import SYSTEM_CLOCK, iso

# Seconds within which the router of a site has usually started, also on a small machine.
_STARTING_S = 120.0


@dataclass(frozen=True, slots=True)
class RunningSite:
    """A site that runs."""

    path: Path
    """Its site file."""
    pid: int
    """The process of its `sisock up`."""
    since: float | None
    """When it was started, UNIX seconds; None where that was not recorded."""

    def __str__(self) -> str:
        since = f"since {iso(self.since)}, " if self.since is not None else ""
        return f"{printable(str(self.path))} ({since}process {self.pid})"

    @property
    def router_hint(self) -> str:
        """The remedy when the router of this site does not answer."""
        age_s = SYSTEM_CLOCK.now() - self.since if self.since is not None else _STARTING_S
        if age_s < _STARTING_S:
            return (
                f"the site in {self.path.parent} has been starting for {age_s:.0f} s, and its router does not answer "
                "yet; try again in a moment"
            )
        return f"process {self.pid} runs the site in {self.path.parent}, see its log"


def running_sites() -> list[RunningSite]:
    """Return the sites that this user runs, in the order in which they were started."""
    return [RunningSite(Path(each["site"]), each["pid"], each.get("since")) for each in _records()]


def known_to_run() -> list[RunningSite]:
    """Return the sites that this user runs, for the text of another error; none where their record cannot be used."""
    with suppress(BadRequest):
        return running_sites()
    return []


def record_running(path: Path) -> None:
    """Record that this process runs the site at `path`."""
    pid = os.getpid()
    with _locked():
        _write([*_records(), {"site": str(path), "pid": pid, "started": _started(pid), "since": SYSTEM_CLOCK.now()}])


def forget_running() -> None:
    """Remove the record of the site that this process runs."""
    with _locked():
        _write([record for record in _records() if record["pid"] != os.getpid()])


@contextmanager
def _locked() -> Iterator[None]:
    """Keep others from changing the record: if a site were lost from it, another would pass for the only one."""
    with _record().with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _record() -> Path:
    """Return the file that lists the sites that this user runs, in a folder nobody else can write to."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # After `su` the variable still names the folder of whom we were before, which is closed to us.
    usable = runtime and os.access(runtime, os.R_OK | os.W_OK | os.X_OK) and Path(runtime).is_dir()
    folder = Path(runtime, "sisock") if runtime and usable else Path(tempfile.gettempdir(), f"sisock-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    stat = folder.lstat()
    if not S_ISDIR(stat.st_mode):
        raise BadRequest(f"{folder} is not a folder; remove it, or set XDG_RUNTIME_DIR")
    if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
        raise BadRequest(f"{folder} can be written by others; remove it, or set XDG_RUNTIME_DIR")
    return folder / "running.json"


def _started(pid: int) -> str | None:
    """Return when the process `pid` was started, in the kernel's ticks; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _records() -> list[dict[str, Any]]:
    try:
        records = json.loads(_record().read_text())
        # A pid may belong to another process by now; the time of its start shows it.
        return [record for record in records if _started(record["pid"]) == record["started"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(records: list[dict[str, Any]]) -> None:
    write_whole(_record(), json.dumps(records), sync=False)  # which no loss of power outlives
