"""Arguments of procedures on the command line: ``name=value``, and how a node describes them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sisock.errors import BadRequest

Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="Values are YAML: 5, true, '[a, b]', text.")
]


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


def described(procedure: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for a procedure with its kind, and one for each argument with type, default and description."""
    kind = f"{procedure['kind']} " if procedure.get("kind") else ""
    destroys = " (destructive)" if procedure.get("destructive") else ""
    yield f"{kind}{procedure['name']}: {procedure.get('description', '')}{destroys}"
    schema = procedure["parameters"]
    required = schema.get("required", ())
    for name, about in schema.get("properties", {}).items():
        kinds = [each.get("type", "object") for each in about.get("anyOf", (about,)) if each.get("type") != "null"]
        need = "required" if name in required else f"default {json.dumps(about.get('default'))}"
        text = about.get("description") or ""
        yield f"  {name} ({' or '.join(kinds)}, {need}){': ' + text if text else ''}"
