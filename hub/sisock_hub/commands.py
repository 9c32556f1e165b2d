"""The commands of the router machine: `sisock router`, `sisock hub` and `sisock gateway`."""

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
