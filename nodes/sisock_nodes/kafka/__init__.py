"""Streams in Apache Kafka."""

from collections.abc import Sequence
from pathlib import Path

from sisock.nodetype import NodeContext, NodeType, SinkType
from sisock.sink import Sink
from sisock.source import Source
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.kafka.sink_settings import KafkaSinkSettings


def make_sources(settings: KafkaSettings, context: NodeContext) -> Sequence[Source]:
    """Return the source that consumes the topics.

    Raises
    ------
    MissingExtra
        If confluent-kafka is not installed, or lacks what `format` needs.
    BadRequest
        If librdkafka does not take the settings.
    """
    from sisock_nodes.kafka.source import KafkaTopics

    return [KafkaTopics(settings, context.name, context.clock)]


def check(settings: KafkaSettings) -> None:
    """Raise BadRequest if librdkafka does not take the settings, MissingExtra if it is not installed."""
    from sisock_nodes.kafka import client

    client.check(client.confluent_kafka.Consumer, settings.librdkafka("check"))


def make_sink(settings: KafkaSinkSettings, context: NodeContext) -> Sink:
    """Return the sink.

    Raises
    ------
    MissingExtra
        If confluent-kafka is not installed.
    BadRequest
        If librdkafka does not take the settings, or nothing can be kept on disk.
    """
    from sisock_nodes.kafka.sink import KafkaSink

    folder = context.folder or Path(".sisock") / "nodes" / context.name
    return KafkaSink(settings, context.name, folder / "kafka", context.clock)


def check_sink(settings: KafkaSinkSettings) -> None:
    """Raise BadRequest if librdkafka does not take the settings, MissingExtra if it is not installed."""
    from sisock_nodes.kafka import client

    client.check(client.confluent_kafka.Producer, settings.librdkafka())


node_type = NodeType(KafkaSettings, make_sources, check)
sink_type = SinkType(KafkaSinkSettings, make_sink, check_sink)
