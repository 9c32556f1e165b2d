"""The settings of ``publish_to: {kafka: …}``."""

from typing import Any, Literal

from pydantic import Field, field_validator

from sisock.nodetype import SinkSettings
from sisock.settings import Size


class KafkaSinkSettings(SinkSettings):
    """Topics of Apache Kafka, one for each timeline."""

    servers: str = Field(min_length=1)
    """The brokers to begin with: ``host:port``, several with commas."""
    topic: str = Field("{node}.{timeline}", min_length=1)
    """The topic; ``{node}`` and ``{timeline}`` stand for their names. Characters that no topic has become ``_``."""
    format: Literal["struct", "json", "msgpack"] = "struct"
    """Contents of a message: records of the time and the values in their own types, or a list of objects."""
    limit: Size = 10**9
    """Most bytes that wait on disk while the broker is unreachable; beyond it the oldest are dropped."""
    config: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Further settings of librdkafka, such as ``security.protocol``."""

    @field_validator("topic")
    @classmethod
    def _names_only_those(cls, topic: str) -> str:
        try:
            topic.format(node="", timeline="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{topic!r} may name {{node}} and {{timeline}} only") from error
        return topic

    def librdkafka(self) -> dict[str, Any]:
        """Return the settings of the client."""
        return {
            "bootstrap.servers": self.servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.kbytes": 65536,
            "message.timeout.ms": 60_000,
            **self.config,
        }
