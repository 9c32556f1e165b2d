"""Feeds of OCS agents."""

from collections.abc import Sequence
from dataclasses import replace

from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.ocs_feed.settings import OcsFeedSettings


def make_sources(settings: OcsFeedSettings, context: NodeContext) -> Sequence[Source]:
    """Return the source that is subscribed to the feeds."""
    from sisock_nodes.ocs_feed.source import OcsFeeds
    from sisock_nodes.ocs_feed.subscription import FeedSubscription

    access = context.access
    if settings.url is not None:
        access = replace(access, url=settings.url, realm=settings.realm, user="", secret="", ca=None)
    link = FeedSubscription(access, settings.topic, anonymous=settings.url is not None)
    return [OcsFeeds(settings, link, context.clock)]


node_type = NodeType(OcsFeedSettings, make_sources)
