"""Parsing of the events of OCS feeds.

References
----------
OCS, "Feeds" and "OCS data feeds": https://ocs.readthedocs.io
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sisock.errors import BadData
from sisock.fields import FloatArray
from sisock_nodes.records.learned import Values, as_floats

HEARTBEAT = "heartbeat"
_NUMBERS = {int, float}


@dataclass(frozen=True, slots=True)
class Block:
    """The samples of a block.

    Attributes
    ----------
    t : ndarray of float64, shape (n,)
        Their times, UNIX seconds; NaN where there is none.
    values : mapping of str to sequence
        n values for each key.
    bad_columns : int
        How many keys do not have a value for each time; they are left out.
    """

    t: FloatArray
    values: Mapping[str, Values]
    bad_columns: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a feed.

    Attributes
    ----------
    agent : str
        The instance-id.
    feed : str
    blocks : dict of str to Block
        By name; none where the feed is not recorded.
    bad_blocks : int
        How many blocks cannot be read.
    """

    agent: str
    feed: str
    blocks: dict[str, Block] = field(default_factory=dict)
    bad_blocks: int = 0


def event_of(argument: Any, address_root: str) -> Event:
    """Parse the one argument of an event: the pair of a message and a description of its feed.

    Raises
    ------
    BadData
        If it is not an event of a feed.
    """
    try:
        message, about = argument
        agent = str(about["agent_address"]).removeprefix(f"{address_root}.")
        feed = str(about["feed_name"])
        blocks = {str(name): _block(block) for name, block in message.items() if block} if about["record"] else {}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadData(f"an event of OCS cannot be read: {error!r}") from error
    if not agent or not feed:
        raise BadData("an event of OCS names no agent or no feed")
    good = {name: block for name, block in blocks.items() if block is not None}
    return Event(agent, feed, good, len(blocks) - len(good))


def _block(block: Any) -> Block | None:
    """Parse a block; None if it is invalid."""
    if type(block) is not dict or not _is_list(block.get("timestamps")) or type(block.get("data")) is not dict:
        return None
    times, data = block["timestamps"], block["data"]
    t = times if set(map(type, times)) <= _NUMBERS else [v if type(v) in _NUMBERS else math.nan for v in times]
    values = {str(key): each for key, each in data.items() if _is_list(each) and len(each) == len(times)}
    return Block(as_floats(t), values, len(data) - len(values))


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple)
