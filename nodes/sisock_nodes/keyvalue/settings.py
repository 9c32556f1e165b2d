"""The settings of ``type: keyvalue``."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sisock.nodetype import NodeSettings


class KeyValueSettings(NodeSettings):
    """A tree of values that programs share: settings, states, who uses what."""

    type: Literal["keyvalue"]
    description: str | None = "A tree of values"
    keep_changes: int = Field(100_000, ge=1, le=10_000_000)
    """Most changes that are kept in memory for clients that missed some; others take a snapshot."""

    @model_validator(mode="after")
    def _no_samples(self) -> Self:
        if kept := self.model_fields_set & {"history", "allowance", "publish_to", "expect_every", "alarms"}:
            raise ValueError(f"{', '.join(sorted(kept))}: a key-value tree has no samples; leave it out")
        return self
