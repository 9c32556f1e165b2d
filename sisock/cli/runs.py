"""The commands about operations: `run` starts one or follows its run, `operations` lists runs and cancels them."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from sisock.cli.arguments import Arguments, parsed
from sisock.cli.ask import Json, NodeName, tree
from sisock.cli.places import SiteOption, UserOption, find_access
from sisock.cli.terminal import echo, make_console
from sisock.errors import BadRequest, NoSuchProcedure, RunCancelled, RunFailed
from sisock.printable import printable

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer, BlockingRunHandle
    from sisock.runs import Change

_FAILED, _INTERRUPTED = 1, 130
"""Exit status of a command whose run failed or was cancelled, and of one that was left by Ctrl-C."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(run)
    app.command()(operations)


def run(
    node: NodeName,
    operation: Annotated[
        str | None, typer.Argument(help="Its name, as `sisock procedures` lists it; none with --attach.")
    ] = None,
    arguments: Arguments = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the id of the run, and do not wait.")] = False,
    attach: Annotated[str | None, typer.Option(metavar="ID", help="Follow a run that was started before.")] = None,
    updates: Annotated[bool, typer.Option("--updates", help="Print each update of the run.")] = False,
    site: SiteOption = None,
    user: UserOption = None,
    as_json: Json = False,
) -> None:
    """Start an operation of a node, as operator, and wait for its result; Ctrl-C asks the run to end."""
    from sisock.consumer import BlockingConsumer

    if (operation is None) == (attach is None):
        raise BadRequest(f"give an operation, as `sisock procedures {node}` lists it, or --attach and the id of a run")
    if attach is not None and detach:
        raise BadRequest("give --attach or --detach, not both")
    given = parsed(arguments or ())
    with BlockingConsumer(find_access(site, "operator", user)) as consumer:
        started = consumer.run(node, attach) if attach is not None else start(consumer, node, str(operation), given)
        if detach:
            typer.echo(json.dumps({"id": started.id}) if as_json else started.id)
        else:
            follow(started, partial(_line, as_json=as_json) if updates else None, shows_bar=not as_json)
            if as_json:
                typer.echo(json.dumps(dict(started.about)))
            result = result_of(started)
            if not as_json:
                show_result(result)


def start(consumer: "BlockingConsumer", node: str, operation: str, arguments: dict[str, Any]) -> "BlockingRunHandle":
    """Start a run; the error of a query or a command names the command line that calls it."""
    try:
        return consumer.operation(node, operation, **arguments)
    except (BadRequest, NoSuchProcedure):
        kinds = {each["name"]: each.get("kind") or "command" for each in consumer.procedures(node)}
        if kinds.get(operation, "operation") == "operation":
            raise
        raise BadRequest(
            f"{operation!r} of node {node!r} is a {kinds[operation]}; call it by `sisock call {node} {operation}`"
        ) from None


def follow(
    run: "BlockingRunHandle", on_change: "Callable[[Change], str | None] | None" = None, *, shows_bar: bool
) -> None:
    """Wait for the end of a run; Ctrl-C asks it to end, and a second one leaves it.

    Parameters
    ----------
    run : BlockingRunHandle
    on_change : callable, optional
        Returns the line to print for a change, if any.
    shows_bar : bool
        Show the progress, on a terminal.
    """
    from sisock.cli import show

    seen = 0
    with _bar(run, is_wanted=shows_bar) as (draw, out, err):

        def wait() -> None:
            nonlocal seen
            for change in run.changes(seen):
                seen = change.seq
                draw()
                if on_change is not None and (line := on_change(change)) is not None:
                    out.print(Text(line))

        try:
            try:
                wait()
            except KeyboardInterrupt:
                show.note(err, f"run {run.id} of {run.name} is asked to end; Ctrl-C leaves it")
                run.cancel()
                wait()
        except KeyboardInterrupt:
            again = f"`sisock run {run.node} --attach {run.id}` follows it"
            end = f"`sisock operations {run.node} --cancel {run.id}` ends it"
            show.note(err, f"run {run.id} of {run.name} continues; {again}, {end}")
            raise typer.Exit(_INTERRUPTED) from None


def result_of(run: "BlockingRunHandle") -> Any:
    """Return the result of a run that is over; report why it has none, and end with status 1."""
    try:
        return run.result()
    except (RunFailed, RunCancelled) as error:
        echo(f"sisock: {error.message}", err=True)
        raise typer.Exit(_FAILED) from None


def show_result(result: Any) -> None:
    """Print the result of a query, a command or an operation."""
    if isinstance(result, dict | list):
        for line in tree(result):
            echo(line)
    else:
        echo("done" if result is None else result)


@contextmanager
def _bar(run: "BlockingRunHandle", *, is_wanted: bool) -> Iterator[tuple[Callable[[], None], Console, Console]]:
    """Show the progress of a run on a terminal; yield a function that draws it, and consoles for stdout and stderr."""
    stderr, stdout = make_console(stderr=True), make_console()
    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    is_shown = stderr.is_terminal and is_wanted
    with Progress(*columns, console=stderr, transient=True, disable=not is_shown, redirect_stdout=False) as bar:
        task = bar.add_task(run.name, total=None)

        def draw() -> None:
            state = "" if run.state == "running" else f" {run.state}"
            text = f"{run.name}{state}{f': {run.message}' if run.message else ''}"
            bar.update(task, description=printable(text))
            if run.progress is not None:
                bar.update(task, total=1.0, completed=run.progress)

        # Lines that go to the same terminal have to be above the bar.
        yield draw, bar.console if is_shown and sys.stdout.isatty() else stdout, bar.console


def _line(change: "Change", *, as_json: bool) -> str | None:
    if as_json:
        keys = ("seq", "state", "progress", "message", "update")
        return json.dumps({key: getattr(change, key) for key in keys})
    if change.update is None:
        return None
    return printable(change.update if isinstance(change.update, str) else json.dumps(change.update))


def operations(
    node: NodeName,
    active: Annotated[bool, typer.Option("--active", help="Only runs that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest runs only.")] = 20,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="Ask this run to end, as operator.")] = None,
    hard: Annotated[bool, typer.Option("--hard", help="With --cancel: end its code by force.")] = False,
    site: SiteOption = None,
    user: UserOption = None,
    as_json: Json = False,
) -> None:
    """List the newest runs of a node's operations, or ask one to end."""
    from sisock.cli import show
    from sisock.consumer import BlockingConsumer
    from sisock.consumer.lists import RUN_COLUMNS, run_row

    if hard and cancel is None:
        raise BadRequest("--hard ends the run that --cancel names; give its id")
    with BlockingConsumer(find_access(site, "consumer" if cancel is None else "operator", user)) as consumer:
        if cancel is not None:
            ended = consumer.command(node, "cancel_operation", id=cancel, hard=hard)
            if as_json:
                typer.echo(json.dumps(ended))
            else:
                echo(f"run {ended['id']} of {ended['name']}: {ended['state']}")
            return
        runs = consumer.operations(node, active or None, limit)
    if as_json:
        typer.echo(json.dumps(runs))
    elif runs:
        show.table(make_console(), RUN_COLUMNS, [run_row(each) for each in runs])
    else:
        echo(f"node {node} has no {'active ' if active else ''}runs", err=True)
