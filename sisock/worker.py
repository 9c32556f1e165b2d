"""Threads: one way to start, stop and join them, and to report what their code raises."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Worker:
    """Runs a function in a daemon thread until it returns.

    Parameters
    ----------
    name : str
        Name of the thread.
    run : callable
        Called in the thread with the arguments of `start`; returns soon after `stopping` is set. An exception ends the
        thread, is logged with its traceback, and kept in `error`.
    patience_s : float, optional
        Seconds for which `stop` waits for it; by default until it has returned.
    wake : callable, optional
        Called by `stop` to interrupt what `run` waits for.
    stopping : threading.Event, optional
        Shared by workers that are stopped together.

    Attributes
    ----------
    stopping : threading.Event
        Set when the thread is to end.
    error : BaseException or None
        The exception that ended `run`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[..., object],
        *,
        patience_s: float | None = None,
        wake: Callable[[], object] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.stopping = stopping or threading.Event()
        self.error: BaseException | None = None
        self._name, self._run, self._patience_s, self._wake = name, run, patience_s, wake
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, *arguments: object) -> None:
        """Start the thread; again after it has ended.

        Raises
        ------
        RuntimeError
            If it is running.
        """
        if self.is_alive:
            raise RuntimeError(f"worker {self._name} is running already")
        self.stopping.clear()
        self.error = None
        self._thread = threading.Thread(target=self._work, args=arguments, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Have the thread end, wait for that, and return whether it has; called in the thread itself, do not wait."""
        self.stopping.set()
        if self._wake is not None and self.is_alive:
            self._wake()
        return self.join(self._patience_s)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the thread has ended, at most `timeout_s` seconds, and return whether it has."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self.is_alive

    def _work(self, *arguments: object) -> None:
        try:
            self._run(*arguments)
        except BaseException as error:
            self.error = error
            log.exception("thread %s ended by an error", self._name)
