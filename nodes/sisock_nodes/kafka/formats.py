"""The formats whose messages are written by schemas of a registry, and what reads each."""

from sisock.metrics import Counters
from sisock.times import Clock
from sisock_nodes.kafka.registry import SchemaRegistry
from sisock_nodes.kafka.schemas import SchemaDecoder
from sisock_nodes.kafka.settings import KafkaSettings


def decoder_for(settings: KafkaSettings, clock: Clock, counters: Counters) -> SchemaDecoder | None:
    """Return a decoder that reads messages by their schemas; None for formats without schemas.

    Raises
    ------
    MissingExtra
        If confluent-kafka was installed without what a schema registry needs.
    BadRequest
        If the registry's client does not take the settings.
    """
    if settings.registry is None:
        return None
    if settings.format == "avro":
        from sisock_nodes.kafka.avro import avro_reader as reader
    else:
        from sisock_nodes.kafka.protobuf import protobuf_reader as reader
    return SchemaDecoder(SchemaRegistry(settings.registry, clock, counters), reader, clock)
