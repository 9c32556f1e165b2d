"""Recording the samples of other nodes."""

from collections.abc import Sequence

from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.recorder.settings import RecorderSettings


def make_sources(settings: RecorderSettings, context: NodeContext) -> Sequence[Source]:
    """Return the source that follows other nodes."""
    from sisock.consumer import Consumer
    from sisock_nodes.recorder.source import RecorderSource

    return [RecorderSource(settings, context.name, lambda: Consumer(context.access, cache_bytes=0), context.clock)]


node_type = NodeType(RecorderSettings, make_sources)
