"""Asking and subscribing: `Consumer` for asyncio, `BlockingConsumer` for notebooks and scripts.

Both speak through one connection that lives in Twisted's reactor, in a thread of its own where the program
does not run one itself; so they work in any event loop, and beside data nodes in the same process.
"""

from sisock.consumer.asynchronous import Consumer
from sisock.consumer.blocking import BlockingConsumer
from sisock.consumer.blocking_follow import BlockingFollowing
from sisock.consumer.connection import TIMEOUT_S
from sisock.consumer.data import Data
from sisock.consumer.delivered import Position
from sisock.consumer.following import Following
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.consumer.keyvalue import TreeUpdate
from sisock.consumer.live import LiveFeed
from sisock.consumer.merged import Merged
from sisock.consumer.requests import Progress
from sisock.consumer.router_thread import in_reactor
from sisock.consumer.runs import BlockingRunHandle, RunHandle
from sisock.consumer.tables import TablePage

__all__ = [
    "TIMEOUT_S",
    "BlockingConsumer",
    "BlockingFollowing",
    "BlockingRunHandle",
    "Consumer",
    "Data",
    "FieldInfo",
    "Following",
    "LiveFeed",
    "Merged",
    "NodeInfo",
    "Position",
    "Progress",
    "RunHandle",
    "TablePage",
    "TreeUpdate",
    "in_reactor",
]
