"""Binary datagrams from rigs and sensors."""

from collections.abc import Sequence

from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.udp.settings import UdpSettings


def make_sources(settings: UdpSettings, context: NodeContext) -> Sequence[Source]:
    """Return the source that receives on all ports.

    Raises
    ------
    BadRequest
        If a port cannot be bound.
    """
    from sisock_nodes.udp.source import UdpSources

    return [UdpSources(settings, context.clock, context.folder)]


node_type = NodeType(UdpSettings, make_sources)
