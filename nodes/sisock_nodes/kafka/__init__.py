"""Streams in Apache Kafka."""
