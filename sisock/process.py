"""Settings of the process itself, made once when it starts."""

import resource
from pathlib import Path


def raise_open_files() -> int:
    """Raise the soft limit on open files to the hard limit, and return it.

    The usual soft limit of 1,024 is used up by as many connections; who comes after that is reset.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def open_files() -> dict[str, int]:
    """Return the number of open files of this process, and its limit."""
    return {
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "open_files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
