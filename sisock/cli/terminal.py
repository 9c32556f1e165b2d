"""The console of the commands."""

import typer
from rich.console import Console

from sisock.printable import printable


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints texts unchanged: brackets and colons of names and units are not markup."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line for people; control characters in it are escaped."""
    typer.echo(printable(str(text)), err=err)
