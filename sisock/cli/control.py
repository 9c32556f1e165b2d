"""The commands that operate nodes: `procedures`, `call`."""

import json
from typing import Annotated, Any

import typer

from sisock.cli import runs
from sisock.cli.arguments import Arguments, described, parsed
from sisock.cli.ask import Json, NodeName
from sisock.cli.places import SiteOption, UserOption, find_access
from sisock.cli.terminal import echo


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(procedures)
    app.command()(call)


def procedures(node: NodeName, site: SiteOption = None, as_json: Json = False) -> None:
    """List the queries, commands and operations of a node with their arguments."""
    from sisock.consumer import BlockingConsumer

    with BlockingConsumer(find_access(site)) as consumer:
        there = consumer.procedures(node)
    if as_json:
        typer.echo(json.dumps(there))
        return
    for each in there:
        for line in described(each):
            echo(line)
    if not there:
        echo(f"node {node} has no queries, commands or operations", err=True)


def call(
    node: NodeName,
    procedure: Annotated[str, typer.Argument(help="Its name, as `sisock procedures` lists it.")],
    arguments: Arguments = None,
    site: SiteOption = None,
    user: UserOption = None,
    as_json: Json = False,
) -> None:
    """Call a query or a command of a node, as operator; of an operation, wait for its run as `sisock run` does."""
    from sisock.consumer import BlockingConsumer

    given = parsed(arguments or ())
    with BlockingConsumer(find_access(site, "operator", user)) as consumer:
        kind = {each["name"]: each.get("kind") for each in consumer.procedures(node)}.get(procedure)
        result: Any
        if kind == "operation":
            run = consumer.operation(node, procedure, **given)
            runs.follow(run, shows_bar=not as_json)
            result = runs.result_of(run)
        elif kind == "query":
            result = consumer.query(node, procedure, **given)
        else:
            result = consumer.command(node, procedure, **given)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        runs.show_result(result)
