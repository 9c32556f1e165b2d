"""A progress bar for reads and runs that take long."""

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

    def draw(bar: Any) -> None:
        received, total = at
        if total and bar.total != total:
            bar.reset(total)
        bar.update(received - bar.n)

    request = ask(progress)
    try:
        show_bar(lambda seconds: _is_done(request, seconds), draw, desc=f"asking {node}", unit="B", unit_scale=True)
    except KeyboardInterrupt:
        request.cancel()
        raise
    return request


def show_bar(is_done: Callable[[float], bool], draw: Callable[[Any], None], **options: Any) -> None:
    """Show a bar while something takes long, if somebody can see it; return then or at once.

    Parameters
    ----------
    is_done : callable
        Waits for some seconds at the most, and returns whether it is done.
    draw : callable
        Called with the bar, to bring it up to date.
    **options : Any
        Of tqdm.
    """
    if not _is_seen() or is_done(_PATIENCE_S) or (make_bar := _bar_maker()) is None:
        return
    with make_bar(leave=False, total=None, file=sys.stderr, **options) as bar:
        while not is_done(_EVERY_S):
            draw(bar)
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
