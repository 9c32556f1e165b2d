"""The leash: when this process ends, however it does, its children end with all that they have started."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LAUNCHER = str(Path(__file__).with_name("launcher.py"))


class Leash:
    """A small process that waits for the end of this one, and then kills the process groups of its children.

    The kernel's own signal at the death of a parent comes when the *thread* that has started the child ends, and
    reaches the child alone. The process exists while there are children.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()
        self._holders = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the process for as long as the caller may start children."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders and self._helper is not None:
                    self._close(self._helper)
                    self._helper = None

    def start(self, order: Mapping[str, Any], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program as the leader of a process group that ends with this process, and return it.

        Parameters
        ----------
        order : mapping
            Its ``command`` and ``limits``, see `sisock.child.launcher.launch`.
        **options
            Of `subprocess.Popen`.

        Raises
        ------
        OSError
            If no process can be started at the moment.
        """
        with self._lock:
            order = {**order, "leash": self._descriptor(options.get("env"))}
            options["pass_fds"] = (*options.get("pass_fds", ()), order["leash"])
            launcher = [sys.executable, "-I", "-S", _LAUNCHER, "launch", json.dumps(order)]
            process = subprocess.Popen(launcher, start_new_session=True, **options)  # noqa: S603 - our own command
            self._groups.add(process.pid)
        return process

    def remove(self, group: int) -> None:
        """Forget a process group of which nothing is left, before its number can be given to another."""
        with self._lock:
            self._groups.discard(group)
            self._write(b"-%d\n" % group)

    def forget(self) -> None:
        """Start again without children, in a process that was forked off this one."""
        self.__init__()  # type: ignore[misc]

    def _descriptor(self, environment: Mapping[str, str] | None) -> int:
        """Return the descriptor to which a child reports its process group before it does anything else."""
        helper = self._helper
        if helper is None or helper.poll() is not None:
            if helper is not None:
                self._close(helper)
            helper = self._helper = self._started(environment)
            for group in self._groups:  # the former one was killed, such as by a person who did not know it
                self._write(b"+%d\n" % group)
        assert helper.stdin is not None  # noqa: S101 - it is a pipe
        return helper.stdin.fileno()

    @staticmethod
    def _started(environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        helper = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-I", "-S", _LAUNCHER, "watch", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,  # with the mark of a site's run, see `sisock.leftovers`
            start_new_session=True,
            bufsize=0,
        )
        assert helper.stdin is not None  # noqa: S101 - it is a pipe
        os.set_blocking(helper.stdin.fileno(), False)
        return helper

    def _write(self, line: bytes) -> None:
        helper = self._helper
        if helper is not None and helper.stdin is not None:
            # It is stopped, or was killed: it is started again with the next child.
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(helper.stdin.fileno(), line)

    @staticmethod
    def _close(helper: subprocess.Popen[bytes]) -> None:
        if helper.stdin is not None:
            helper.stdin.close()
        helper.kill()  # no group is left for it to end
        helper.wait()


LEASH = Leash()
"""That of this process."""

os.register_at_fork(after_in_child=LEASH.forget)
