"""What an event of an OCS feed says.

References
----------
OCS, "Feeds" and "OCS data feeds": https://ocs.readthedocs.io
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sisock.errors import BadData
from sisock.fields import Column, FloatArray, as_batch

HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a feed.

    Attributes
    ----------
    agent : str
        The instance-id.
    feed : str
    blocks : mapping of str to (ndarray of float64, shape (n,), and dict of str to ndarray, shape (n,))
        The times, UNIX seconds, and values of each block; empty where the feed is not recorded.
    """

    agent: str
    feed: str
    blocks: Mapping[str, tuple[FloatArray, dict[str, Column]]]


def event_of(argument: Any, address_root: str) -> Event:
    """Return what the one argument of an event says: the pair of a message and a description of its feed.

    Raises
    ------
    BadData
        If it is no event of a feed.
    """
    try:
        message, about = argument
        agent = str(about["agent_address"]).removeprefix(f"{address_root}.")
        feed, blocks = str(about["feed_name"]), {}
        for name, block in message.items() if about["record"] else ():
            batch = as_batch(str(name), block["timestamps"], block["data"])
            blocks[batch.timeline] = (batch.t, dict(batch.columns))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadData(f"an event of OCS cannot be read: {error!r}") from error
    if not agent or not feed:
        raise BadData("an event of OCS names no agent or no feed")
    return Event(agent, feed, blocks)
