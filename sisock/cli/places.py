"""Finding the site, or the router, that a command is about."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from sisock.errors import BadRequest
from sisock.site import Access, Site, access_from_environment, load_site

SiteOption = Annotated[
    Path | None,
    typer.Option(
        "--site", envvar="SISOCK_SITE", help="The site file; by default ./site.yaml, else the site that runs."
    ),
]


def find_site(path: Path | None) -> Site:
    """Return the site that is meant: the one named, else ``site.yaml`` here, else the one that runs.

    Raises
    ------
    BadRequest
        If there is none.
    SiteError
        If the file is wrong.
    """
    path = path or _environment_site() or _here() or running_site()
    if path is None:
        raise BadRequest(
            "which site? there is no site.yaml here and none is running; name one with --site or SISOCK_SITE, or make "
            "one with `sisock init`"
        )
    return load_site(path)


def find_access(path: Path | None, role: str = "consumer") -> Access:
    """Return how the router is reached: by the site named, by WAMP_URI in the environment, or by the site found."""
    if path is None and os.environ.get("WAMP_URI") and os.environ.get("WAMP_SECRET"):
        return access_from_environment()
    return find_site(path).access(role)


def _environment_site() -> Path | None:
    value = os.environ.get("SISOCK_SITE")
    return Path(value) if value else None


def _here() -> Path | None:
    path = Path("site.yaml")
    return path if path.exists() else None


def _record() -> Path:
    """Return the file that names the site that this user runs, in a folder nobody else can write to."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # After `su` the variable still names the folder of whom we were before, which is closed to us.
    usable = runtime and os.access(runtime, os.R_OK | os.W_OK | os.X_OK) and Path(runtime).is_dir()
    folder = Path(runtime, "sisock") if runtime and usable else Path(tempfile.gettempdir(), f"sisock-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    stat = folder.stat()
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
    except (OSError, ValueError):
        return []
    # A pid may have been given to another process since: its start tells.
    return [record for record in records if _started(record["pid"]) == record["started"]]


def running_site() -> Path | None:
    """Return the file of the site that this user started last and that still runs."""
    records = _records()
    return Path(records[-1]["site"]) if records else None


def record_running(path: Path) -> None:
    """Remember that this process runs the site at `path`."""
    own = {"site": str(path), "pid": os.getpid(), "started": _started(os.getpid())}
    _write([*_records(), own])


def forget_running() -> None:
    """Forget the site that this process runs."""
    _write([record for record in _records() if record["pid"] != os.getpid()])


def _write(records: list[dict[str, Any]]) -> None:
    record = _record()
    fresh = record.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(records))
    fresh.replace(record)
