"""The commands that operate nodes: `procedures`, `call`."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sisock.cli.ask import Json, NodeName, tree
from sisock.cli.places import SiteOption, find_access
from sisock.cli.terminal import echo
from sisock.errors import BadRequest


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(procedures)
    app.command()(call)


def procedures(node: NodeName, site: SiteOption = None, as_json: Json = False) -> None:
    """List the commands of a node with their arguments."""
    from sisock.consumer import BlockingConsumer

    with BlockingConsumer(find_access(site)) as consumer:
        there = consumer.procedures(node)
    if as_json:
        typer.echo(json.dumps(there))
        return
    for each in there:
        echo(f"{each['name']}: {each.get('description', '')}")
        for line in _arguments(each["parameters"]):
            echo(f"  {line}")
    if not there:
        echo(f"node {node} has no commands", err=True)


def call(
    node: NodeName,
    procedure: Annotated[str, typer.Argument(help="Its name, as `sisock procedures` lists it.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="Values are YAML: 5, true, '[a, b]', text.")
    ] = None,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Call a command of a node, as operator."""
    from sisock.consumer import BlockingConsumer

    given = parsed(arguments or ())
    with BlockingConsumer(find_access(site, "operator")) as consumer:
        answer = consumer.call(node, procedure, **given)
    if as_json:
        typer.echo(json.dumps(answer))
    elif isinstance(answer, dict | list):
        for line in tree(answer):
            echo(line)
    else:
        echo("done" if answer is None else answer)


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """Return arguments of the form ``name=value``."""
    yaml = YAML(typ="safe")
    given: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name:
            raise BadRequest(f"{argument!r} is not an argument; write name=value")
        try:
            given[name] = yaml.load(text)
        except (YAMLError, ValueError, OverflowError, RecursionError) as error:
            raise BadRequest(f"{argument!r} cannot be read as YAML; quote the text: {name}='\"…\"'") from error
    return given


def _arguments(schema: Mapping[str, Any]) -> list[str]:
    """Return a line for each argument: name, type, default, description."""
    required = schema.get("required", ())
    lines = []
    for name, about in schema.get("properties", {}).items():
        kinds = [each.get("type", "object") for each in about.get("anyOf", (about,)) if each.get("type") != "null"]
        need = "required" if name in required else f"default {json.dumps(about.get('default'))}"
        said = about.get("description") or ""
        lines.append(f"{name} ({' or '.join(kinds)}, {need}){': ' + said if said else ''}")
    return lines
