"""A tree of values that programs share, as a service of a site."""

from typing import TYPE_CHECKING

from sisock.nodetype import NodeContext, NodeType
from sisock_nodes.keyvalue.settings import KeyValueSettings

if TYPE_CHECKING:
    from sisock.service import Service


def make_service(settings: KeyValueSettings, context: NodeContext) -> "Service":
    """Return the service."""
    from sisock_nodes.keyvalue.service import KeyValueService

    return KeyValueService(settings)


node_type = NodeType(KeyValueSettings, make_service=make_service)
