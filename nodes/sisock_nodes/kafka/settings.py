"""The settings of ``type: kafka``."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sisock.nodetype import NodeSettings
from sisock.settings import Seconds
from sisock_nodes.kafka.registry_settings import RegistrySettings
from sisock_nodes.records.keys import Key
from sisock_nodes.records.learned import ValueSettings
from sisock_nodes.records.objects import ObjectTimeSettings
from sisock_nodes.records.settings import RecordSettings

Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class KafkaSettings(NodeSettings):
    """Topics of Apache Kafka as timelines: records of a struct format, JSON, MessagePack, Avro or Protobuf."""

    type: Literal["kafka"]
    description: str | None = "Streams in Kafka"
    servers: str = Field(min_length=1)
    """The brokers to begin with: ``host:port``, several with commas."""
    topics: list[Topic] = Field(default_factory=list)
    """Topics by name."""
    topic_pattern: str | None = None
    """Topics by a regular expression, which must match the whole name; new ones are found while the node runs."""
    group: str | None = None
    """Consumer group; nodes with the same group share the partitions. By default ``sisock-<node>``."""
    partitions: dict[Topic, list[Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)
    """Partitions to read, by topic, instead of sharing them in a group."""
    format: Literal["struct", "json", "msgpack", "avro", "protobuf"] = "json"
    """Contents of a message: any number of records of `record`, or an object or a list of objects."""
    registry: RegistrySettings | None = None
    """The registry that has the schemas, where `format` is ``avro`` or ``protobuf``."""
    record: RecordSettings | None = None
    """The records, where `format` is ``struct``."""
    time: ObjectTimeSettings = ObjectTimeSettings()
    """Where the time is in an object."""
    values: dict[str, ValueSettings] = Field(default_factory=dict)
    """Units, descriptions and types of an object's values, by key."""
    missing: tuple[str, ...] = ()
    """Marks in objects that mean that there is no value, as null and an empty text do; numbers match however they are
    written."""
    key: Key | None = None
    """The key of the devices whose messages share a topic: each has a timeline of its own."""
    start: Literal["earliest", "latest"] | Seconds | None = None
    """Where to begin in a topic that was not read before: ``earliest``, ``latest``, or so long ago. By default as long
    ago as `history.keep`."""
    lateness: Seconds = 5.0
    """How late a sample may come and still be sorted in, by its own time."""
    max_ahead: Seconds = 86400.0
    """Samples that are farther ahead of the clock than this are refused."""
    config: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Further settings of librdkafka, such as ``security.protocol``."""

    @field_validator("topic_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        import re

        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if found := re.search(r"\\[A-Za-z]|[*+?}]\?|\(\?", pattern or ""):
            raise ValueError(
                f"{pattern!r} has {found[0]!r}, which librdkafka does not know; it takes POSIX extended regular "
                "expressions, so write [0-9] for a digit, [A-Za-z0-9_] for a letter of a word"
            )
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.topics and self.topic_pattern is None and not self.partitions:
            raise ValueError("no topics; give topics, topic_pattern or partitions")
        if self.partitions and (self.topics or self.topic_pattern or self.group):
            raise ValueError("partitions names the topics to read, without a group; leave out topics and group")
        if self.format == "struct" and self.record is None:
            raise ValueError("format struct needs record: its byte_format and input_names")
        if self.format != "struct" and self.record is not None:
            raise ValueError(f"record is for format struct, not {self.format}")
        if self.record is not None and self.missing:
            raise ValueError("missing is for objects; give record.missing")
        if self.record is not None and self.key is not None:
            for name in sorted(set(self.key.values) - set(self.record.input_names)):
                raise ValueError(f"key names {name!r}, which record.input_names does not have")
        if (self.format in ("avro", "protobuf")) is not (self.registry is not None):
            needs = "needs registry: the url of its schemas" if self.registry is None else "has no use for registry"
            raise ValueError(f"format {self.format} {needs}")
        return self

    def librdkafka(self, node: str) -> dict[str, Any]:
        """Return the settings of the client."""
        # In a group of its own a node that was killed takes up its partitions at once, where it would wait for its old
        # session to end. Where others may take them over, a node that stops is to leave the group.
        own = {} if self.group else {"group.instance.id": f"sisock-{node}"}
        return {
            "bootstrap.servers": self.servers,
            "group.id": self.group or f"sisock-{node}",
            **own,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "topic.metadata.refresh.interval.ms": 5000,
            "fetch.wait.max.ms": 100,
            # By default librdkafka pauses for a second each time 100,000 messages wait: two thirds of its speed.
            "queued.min.messages": 1_000_000,
            "fetch.queue.backoff.ms": 20,
            **self.config,
        }
