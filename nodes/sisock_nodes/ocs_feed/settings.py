"""The settings of ``type: ocs-feed``."""

from typing import Annotated, Literal

from pydantic import Field

from sisock.nodetype import NodeSettings
from sisock.settings import Seconds
from sisock_nodes.records.learned import ValueSettings


class OcsFeedSettings(NodeSettings):
    """Feeds of OCS agents: their blocks as timelines, with a history."""

    type: Literal["ocs-feed"]
    description: str | None = "Feeds of OCS agents"
    url: str | None = None
    """The router of OCS, entered without a login; by default this site's router."""
    realm: str = "test_realm"
    """The realm there, where `url` is given."""
    address_root: str = Field("observatory", pattern=r"^[^\s.#]+$")
    """The first component of the addresses of agents."""
    feeds: list[Annotated[str, Field(min_length=1)]] = Field(["*"], min_length=1)
    """Which feeds: ``<instance-id>.<feed>``; ``*``, ``?`` and ``[abc]`` stand for others."""
    lateness: Seconds = 5.0
    """How late a sample may come, by its own time, and still be sorted in."""
    expire: Seconds = 5.0
    """An agent without a heartbeat for so long is offline."""
    values: dict[str, ValueSettings] = Field(default_factory=dict)
    """Units, descriptions and types of values, by key or by ``<instance-id>.<feed>.<key>``."""
    missing: tuple[str, ...] = ()
    """Marks that mean that there is no value, as None and an empty text do; numbers match however they are written."""

    @property
    def topic(self) -> str:
        """The one topic, as a WAMP wildcard, that all feeds and heartbeats are under."""
        return f"{self.address_root}..feeds."
