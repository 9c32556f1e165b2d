"""Tables on disk, CSV or TSV, that may still be growing."""

from collections.abc import Sequence

from sisock.errors import MissingExtra
from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.table.settings import TableSettings


def make_sources(settings: TableSettings, context: NodeContext) -> Sequence[Source]:
    """Return a source for each table that exists.

    Raises
    ------
    MissingExtra
        If pyarrow is not installed.
    BadData
        If there is no table, or none has a usable header.
    """
    try:
        from sisock_nodes.table.tables import table_sources
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise MissingExtra("type table needs pyarrow; run: pip install 'sisock-nodes[table]'") from error
    return table_sources(settings, context.clock)


node_type = NodeType(TableSettings, make_sources)
