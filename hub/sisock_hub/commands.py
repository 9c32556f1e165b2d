"""The commands of the router machine: `sisock router` and `sisock hub`."""

from pathlib import Path
from typing import Annotated

import typer

SiteOption = Annotated[Path | None, typer.Option("--site", help="The site file.", show_default="./site.yaml")]


def router(site: SiteOption = None) -> None:
    """Run the site's router (Crossbar) in the foreground."""
    from sisock.cli.places import find_site
    from sisock_hub.router import start

    start(find_site(site))


def hub(site: SiteOption = None) -> None:
    """Run the site's hub in the foreground."""
    from sisock.cli.places import find_site
    from sisock.runner import run
    from sisock_hub.hub import Hub

    run(Hub, find_site(site).access("server"))
