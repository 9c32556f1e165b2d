"""The commands of key-value trees: ``sisock kv get``, ``set``, ``delete``, ``list``, ``watch``."""

import json
from typing import Annotated, Any

import typer

from sisock.cli.ask import Json, NodeName, asking
from sisock.cli.places import SiteOption, UserOption, find_access
from sisock.cli.terminal import echo
from sisock.errors import BadRequest
from sisock.keyvalue import Entry
from sisock.timelike import as_span

Path = Annotated[str, typer.Argument(metavar="PATH", help="Names joined by /, such as hall/door.")]
Subtree = Annotated[str, typer.Argument(metavar="[PATH]", help="The subtree; by default the whole tree.")]
Expected = Annotated[
    int | None, typer.Option(metavar="SEQ", help="Only if the value is of this change; with 0, if there is none.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    kv = typer.Typer(no_args_is_help=True, help="Read, set and watch the values of a key-value node.")
    for name, command in (
        ("get", get),
        ("set", set_value),
        ("delete", delete),
        ("list", list_values),
        ("watch", watch),
    ):
        kv.command(name)(command)
    app.add_typer(kv, name="kv")


def get(node: NodeName, path: Path, site: SiteOption = None, as_json: Json = False) -> None:
    """Print the value at a path."""
    with asking(site) as consumer:
        found = consumer.query(node, "get", path=path)
    if found is None:
        raise BadRequest(f"node {node} has no value at {path!r}; see `sisock kv list {node}`")
    echo(json.dumps(found) if as_json else _text(found["value"]))


def set_value(
    node: NodeName,
    path: Path,
    value: Annotated[str, typer.Argument(help="JSON, such as 3.5, true or '[1, 2]'; anything else is a text.")],
    expected: Expected = None,
    time_to_live: Annotated[str | None, typer.Option("--for", help="Delete it after so long: 30s, 2h.")] = None,
    site: SiteOption = None,
    user: UserOption = None,
    as_json: Json = False,
) -> None:
    """Set the value at a path, as operator."""
    from sisock.consumer import BlockingConsumer

    given: dict[str, Any] = {"path": path, "value": _parsed(value)}
    if expected is not None:
        given["expected"] = expected
    if time_to_live is not None:
        given["time_to_live"] = as_span(time_to_live, "--for")
    with BlockingConsumer(find_access(site, "operator", user)) as consumer:
        done = consumer.command(node, "set", **given)
    echo(json.dumps(done) if as_json else f"{path} is of change {done['seq']}")


def delete(
    node: NodeName,
    path: Path,
    expected: Expected = None,
    site: SiteOption = None,
    user: UserOption = None,
    as_json: Json = False,
) -> None:
    """Delete the value at a path, as operator."""
    from sisock.consumer import BlockingConsumer

    given: dict[str, Any] = {"path": path} if expected is None else {"path": path, "expected": expected}
    with BlockingConsumer(find_access(site, "operator", user)) as consumer:
        done = consumer.command(node, "delete", **given)
    text = f"there was no value at {path}" if done["seq"] is None else f"{path} was deleted by change {done['seq']}"
    echo(json.dumps(done) if as_json else text)


def list_values(node: NodeName, path: Subtree = "", site: SiteOption = None, as_json: Json = False) -> None:
    """List the values at and below a path."""
    with asking(site) as consumer:
        update = next(iter(consumer.watch(node, path)))
    for entry in update.entries:
        _show(entry, as_json=as_json)


def watch(node: NodeName, path: Subtree = "", site: SiteOption = None, as_json: Json = False) -> None:
    """List the values at and below a path, then their changes as they come, until Ctrl-C."""
    with asking(site) as consumer:
        try:
            for update in consumer.watch(node, path):
                for entry in update.entries:
                    _show(entry, as_json=as_json)
        except KeyboardInterrupt:
            return  # the normal way out


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if value is None:
        raise BadRequest("the value is null; `sisock kv delete` removes a value")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _show(entry: Entry, *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(entry.as_dict()))
    elif entry.is_deleted:
        echo(f"{entry.path} deleted")
    else:
        echo(f"{entry.path} {_text(entry.value)}")
