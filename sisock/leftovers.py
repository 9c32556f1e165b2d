"""Processes that an earlier run of a site has left behind, such as one that hung when its supervisor was killed.

Each run has a random mark, which is in the environment of all processes that it starts, and of those that they start in
turn; while the run lasts, the mark is in a file of the site. So they are recognised for certain, and nothing else is.
"""

import logging
import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path

from sisock.outage import PASSING
from sisock.times import wait_until

log = logging.getLogger(__name__)

_VARIABLE = "SISOCK_RUN"
_MARK_BYTES = 16
# Seconds for the kernel to end what was killed.
_GONE_S = 5.0


class Run:
    """A run of a site, from now until it is closed.

    Parameters
    ----------
    path : Path
        The file that holds its mark; there is none once a run has ended in order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        mark = secrets.token_hex(_MARK_BYTES)
        path.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(mark)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            log.warning(
                "%s cannot be written (%s): what this run leaves if it is killed is not recognised", path, error
            )
        # Crossbar's processes write their titles over their environment unless setproctitle is asked not to.
        self.environment = {_VARIABLE: mark, "SPT_NOENV": "1"}
        """Environment variables of the processes of this run."""

    def close(self) -> None:
        """Forget the run, of which no process is left."""
        self._path.unlink(missing_ok=True)


def end_leftovers(path: Path) -> int:
    """Kill what is left of the run whose mark is in a file, and return how many processes there were.

    Parameters
    ----------
    path : Path
        As of `Run`; without it nothing is left.
    """
    try:
        mark = path.read_text()
    except (OSError, UnicodeDecodeError):
        return 0
    if len(mark) != 2 * _MARK_BYTES:  # it was cut off before anything was started
        return 0
    ended: set[int] = set()

    def are_gone() -> bool:
        left = _killed(mark)
        ended.update(left)
        return not left

    wait_until(are_gone, _GONE_S)
    return len(ended)


def _killed(mark: str) -> set[int]:
    """Kill all processes of this user that have a mark, and return their numbers."""
    wanted, found = f"{_VARIABLE}={mark}".encode(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        # One that has ended meanwhile, or is somebody else's, cannot be read.
        with suppress(OSError):
            process = os.pidfd_open(int(folder.name))  # the number may be given to another process at any time
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    found.add(int(folder.name))
            finally:
                os.close(process)
    return found
