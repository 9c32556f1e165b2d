"""The commands of the router machine: `sisock router` and `sisock hub`."""

import json
from typing import Annotated

import typer

from sisock.cli.places import SiteOption, find_site


def router(
    site: SiteOption = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print Crossbar's configuration, its secrets left out, and end.")
    ] = False,
) -> None:
    """Run the site's router (Crossbar) in the foreground."""
    from sisock_hub.router import configuration, start

    found = find_site(site)
    if print_config:
        typer.echo(json.dumps(configuration(found, None), indent=2))
    else:
        start(found)


def hub(site: SiteOption = None) -> None:
    """Run the site's hub in the foreground."""
    from sisock.runner import run
    from sisock_hub.hub import Hub

    run(Hub, find_site(site).access("server"))
