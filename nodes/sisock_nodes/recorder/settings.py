"""The settings of ``type: recorder``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sisock.nodetype import NodeSettings
from sisock.settings import Seconds


class RecorderSettings(NodeSettings):
    """Samples of other nodes, stored and served; samples that it missed are fetched from them."""

    type: Literal["recorder"]
    description: str | None = "Samples of other nodes"
    record: list[Annotated[str, Field(min_length=1)]] = Field(["*"], min_length=1)
    """Names of nodes, or ``node::timeline``; ``*``, ``?`` and ``[abc]`` stand for others."""
    backfill: Seconds | None = None
    """How far back is fetched of what is recorded for the first time; by default all that there is."""

    @model_validator(mode="after")
    def _on_disk(self) -> Self:
        if self.history.path is None:
            raise ValueError("a recorder keeps what it records on disk; set history.path")
        return self
