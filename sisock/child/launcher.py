"""Two small programs of Python alone: one becomes a child's program, the other ends the children of a killed process.

Both are run by path with ``python -I -S``: they start within milliseconds, and no module of the current folder may
replace one of Python's own. The first reports the child's process group to the second before anything else happens, so
that there is no moment at which a killed parent leaves a child behind.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Mapping
from typing import Any

_LIMITS = {"memory": resource.RLIMIT_DATA, "cpu_s": resource.RLIMIT_CPU, "open_files": resource.RLIMIT_NOFILE}
# Milliseconds after the parent's death in which children that it was starting may still report themselves.
_LATE_MS = 5000
# As of a shell: the program exists but cannot be run, and there is no such program.
_CANNOT_RUN, _NOT_FOUND = 126, 127
_LOWEST = 19
# How often, and after how many seconds, a change of priority is tried again.
_TRIES, _PAUSE_S = 50, 0.05


def launch(order: Mapping[str, Any]) -> None:
    """Become the program of an order: ``{"leash": fd, "limits": {…}, "command": [program, argument, …]}``."""
    with contextlib.suppress(BlockingIOError):  # that program is stopped
        os.write(order["leash"], b"+%d\n" % os.getpid())
    os.close(order["leash"])
    # Python ignores them, and what is ignored stays so in the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    command = order["command"]
    try:
        for name, limit in order["limits"].items():
            _limit(name, limit)
        os.execvp(command[0], command)  # noqa: S606 - no shell is meant
    except FileNotFoundError:
        sys.stderr.write(f"{command[0]}: no such program\n")
        sys.exit(_NOT_FOUND)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        sys.exit(_CANNOT_RUN)


def _limit(name: str, limit: int) -> None:
    if name == "niceness":
        os.nice(limit)
        _lower_session(limit)
        return
    if name == "background":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        _lower_session(_LOWEST)
        return
    try:
        # The kernel warns of used-up CPU time with a signal that kills, and kills one second later in any case.
        resource.setrlimit(_LIMITS[name], (limit, limit + 1 if name == "cpu_s" else limit))
    except ValueError as error:
        allowed = resource.getrlimit(_LIMITS[name])[1]
        sys.stderr.write(f"the limit {name} of {limit} cannot be set: {error}; this process may have {allowed}\n")
        sys.exit(_CANNOT_RUN)


def _lower_session(niceness: int) -> None:
    """Lower the priority of this session, where the kernel shares processors between sessions first (autogroup).

    There, priorities count within a session only, and each child has one of its own.
    """
    for _ in range(_TRIES):
        try:
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(niceness))
        except BlockingIOError:  # the kernel allows ten such changes a second, of all users together
            select.select([], [], [], _PAUSE_S)
        except OSError:  # there are none
            return
        else:
            return


def watch(parent: int) -> None:
    """Kill the process groups that are reported on standard input as soon as the parent has ended.

    A line is ``+<group>`` or ``-<group>``. The end of standard input is the end of the parent, unless a process that
    the parent forked holds the other end as well; so the parent itself is watched, too.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to all processes of a service or terminal; the parent ends first
    poll = select.poll()
    poll.register(0, select.POLLIN)
    process = _opened(parent)
    if process is not None:
        poll.register(process, select.POLLIN)
    orphaned, groups, rest = process is None, set[int](), b""
    while ready := [descriptor for descriptor, _ in poll.poll(_LATE_MS if orphaned else None)]:
        data = os.read(0, 65536) if 0 in ready else None
        *lines, rest = (rest + (data or b"")).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
        if process in ready or data == b"":
            orphaned = True
            if process in ready:
                poll.unregister(process)
        if orphaned:
            for group in groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
            groups.clear()
        if data == b"":
            return


def _opened(parent: int) -> int | None:
    """Return a descriptor that becomes readable when the parent ends; None if it has ended."""
    try:
        process = os.pidfd_open(parent)
    except ProcessLookupError:
        return None
    return process if os.getppid() == parent else None  # its number may have been given to another process


if __name__ == "__main__":
    launch(json.loads(sys.argv[2])) if sys.argv[1] == "launch" else watch(int(sys.argv[2]))
