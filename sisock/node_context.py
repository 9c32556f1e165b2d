"""Making the context of a node, with all that is behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sisock.access import Access, access_from_environment
from sisock.context import Belongings, NodeContext, NodeSecrets
from sisock.nodetype import NodeSettings
from sisock.times import Clock, SystemClock
from sisock.work import Work


def make_context(
    name: str,
    access: Access | None = None,
    settings: NodeSettings | None = None,
    *,
    clock: Clock | None = None,
    folder: Path | None = None,
    secrets: Mapping[str, str] | None = None,
) -> NodeContext:
    """Return the context of a node; the parameters are those of `open_node`."""
    access, clock = access or access_from_environment(), clock or SystemClock()

    def open_consumer() -> Any:
        from sisock.consumer import BlockingConsumer  # takes long to import

        return BlockingConsumer(access)

    work = Work(clock, settings.work, folder=folder, tables=settings.tables) if settings else Work(clock)
    return NodeContext(name, clock, access, folder, NodeSecrets(name, secrets), work, Belongings(open_consumer))
