"""The commands of the router machine: `sisock setup`, `sisock router`, `sisock hub` and `sisock gateway`."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from sisock.cli.places import SiteOption, find_site


class _Part(StrEnum):
    ROUTER = "router"


def setup(part: Annotated[_Part, typer.Argument(help="router: Crossbar, in a Python environment of its own.")]) -> None:
    """Install the requirements of a part of the site: once, and again after an upgrade."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from sisock.cli.terminal import echo, make_console
    from sisock_hub.environment import number_of_requirements, setup_environment

    stderr = make_console(stderr=True)
    columns = SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("", total=number_of_requirements())

        def show(step: str, advance: int) -> None:
            if not stderr.is_terminal and not bar.tasks[task].description:
                echo(f"setting up the {part}; this takes a minute or two", err=True)
            bar.update(task, description=step, advance=advance)

        place, made = setup_environment(show)
    echo(f"{place}: the environment of the {part}{'' if made else ' is up to date; nothing was changed'}")


def router(
    site: SiteOption = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print Crossbar's configuration without its secrets, and end.")
    ] = False,
) -> None:
    """Run the site's router (Crossbar) in the foreground."""
    from sisock_hub.router import configuration, start

    found = find_site(site)
    if print_config:
        typer.echo(json.dumps(configuration(found, None), indent=2))
    else:
        start(found)


def gateway(site: SiteOption = None) -> None:
    """Run the site's gateway in the foreground: Grafana, the HTTP API and the console."""
    from sisock.errors import BadRequest, MissingExtra

    found = find_site(site)
    if found.gateway is None:
        raise BadRequest(f"{found.path} has no gateway; add `gateway: {{}}`")
    try:
        from sisock_hub.gateway.server import serve
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the gateway needs {error.name}; run: pip install 'sisock-hub[gateway]'") from error
    serve(found, found.gateway)


def hub(site: SiteOption = None) -> None:
    """Run the site's hub in the foreground."""
    from sisock.runner import run
    from sisock_hub.hub import Hub

    run(Hub, find_site(site).access("server"))
