"""A progress bar for reads that take long."""

import concurrent.futures
import sys
import warnings
from collections.abc import Callable
from typing import Any

from sisock.consumer.requests import Progress

# Seconds that a read may take before it has a bar, and between two looks at it.
_PATIENCE_S, _EVERY_S = 1.0, 0.1


def waited_for(
    node: str, ask: "Callable[[Progress], concurrent.futures.Future[Any]]"
) -> "concurrent.futures.Future[Any]":
    """Return a request once it is done; meanwhile show how much has come, if that takes long and somebody can see it.

    Parameters
    ----------
    node : str
        Which is asked.
    ask : callable
        Makes the request, whose progress it is given a function for.
    """
    at = 0, 0

    def progress(received: int, total: int) -> None:
        nonlocal at
        at = received, total

    request = ask(progress)
    try:
        _show(node, request, lambda: at)
    except KeyboardInterrupt:
        request.cancel()
        raise
    return request


def _show(node: str, request: "concurrent.futures.Future[Any]", progress: Callable[[], tuple[int, int]]) -> None:
    """Show a bar while a request takes long, if somebody can see it."""
    if not _is_seen() or _is_done(request, _PATIENCE_S) or (make_bar := _bar_maker()) is None:
        return
    with make_bar(desc=f"asking {node}", unit="B", unit_scale=True, leave=False, total=None, file=sys.stderr) as bar:
        while not _is_done(request, _EVERY_S):
            received, total = progress()
            if total and bar.total != total:
                bar.reset(total)
            bar.update(received - bar.n)
            bar.refresh()  # it also shows the time, while nothing comes


def _is_done(request: "concurrent.futures.Future[Any]", timeout_s: float) -> bool:
    return bool(concurrent.futures.wait([request], timeout_s).done)


def _is_seen() -> bool:
    """Whether there is a terminal, or a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _bar_maker() -> Any:
    """Return tqdm for where we are; None if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it warns, and writes text instead
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm
