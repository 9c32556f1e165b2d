"""The `sisock` command, built from its own commands and those of installed packages."""

import os
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Annotated

import typer
from rich.text import Text

from sisock.cli import (
    alarms,
    ask,
    control,
    environment,
    events,
    files,
    histories,
    keyvalue,
    making,
    runs,
    site,
    tables,
    watch,
)
from sisock.cli.places import SiteOption, UserOption, check_site_is_taken, name_site
from sisock.cli.terminal import make_console
from sisock.errors import SisockError
from sisock.printable import printable_lines
from sisock.process import prepare_process


def build() -> typer.Typer:
    """Return the command with all its sub-commands, including those of the entry points ``sisock.commands``."""
    command = typer.Typer(
        name="sisock",
        help="Serve and read the measurements of a site.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    command.callback()(options)
    making.add_to(command)
    site.add_to(command)
    environment.add_to(command)
    ask.add_to(command)
    watch.add_to(command)
    control.add_to(command)
    runs.add_to(command)
    alarms.add_to(command)
    events.add_to(command)
    tables.add_to(command)
    keyvalue.add_to(command)
    files.add_to(command)
    histories.add_to(command)
    for point in sorted(entry_points(group="sisock.commands"), key=lambda p: p.name):
        command.command(point.name)(point.load())
    return command


def _show_versions(wanted: bool) -> None:
    if wanted:
        found = {name: there for name in ("sisock", "sisock-hub", "sisock-nodes") if (there := _version(name))}
        typer.echo(", ".join(f"{name} {there}" for name, there in found.items()))
        raise typer.Exit


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def options(
    context: typer.Context,
    site: SiteOption = None,
    user: UserOption = None,
    show_versions: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the versions of sisock's packages.", callback=_show_versions, is_eager=True
        ),
    ] = False,
) -> None:
    """Read the options before the command."""
    name_site(site, user)
    check_site_is_taken(context)


def main() -> None:
    """Run the command; an error is reported in one line on stderr, with exit status 2."""
    prepare_process()
    command = typer.main.get_command(build())
    try:
        command.main(prog_name="sisock")
    except SisockError as error:
        _tell(error.message)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended
        _say_no_more()
        sys.exit(0)
    except OSError as error:  # such as a full disk of our output
        _say_no_more()
        _tell(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        sys.exit(2)


def _say_no_more() -> None:
    """Drop the rest of our output, which cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str) -> None:
    stderr = make_console(stderr=True)
    for line in printable_lines(message):
        stderr.print(Text.assemble(("sisock:", "red"), " ", line))
