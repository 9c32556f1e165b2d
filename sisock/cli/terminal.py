"""Where commands print."""

from rich.console import Console


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints texts as they are: brackets and colons of names and units mean nothing to it."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
