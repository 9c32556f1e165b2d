"""This machine: CPU, load, memory, disks, network, temperatures."""

from collections.abc import Sequence

from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.host.settings import HostSettings


def make_sources(settings: HostSettings, context: NodeContext) -> Sequence[Source]:
    """Return a source for each timeline that this machine has."""
    from sisock_nodes.host.source import host_sources

    return host_sources(settings, context.clock)


node_type = NodeType(HostSettings, make_sources)
