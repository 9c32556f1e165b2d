"""Clients of librdkafka, for the source and the sink."""

from collections.abc import Callable, Mapping
from typing import Any

from sisock.errors import BadRequest, MissingExtra

try:
    import confluent_kafka
except ModuleNotFoundError as error:
    raise MissingExtra("Kafka needs confluent-kafka; run: pip install 'sisock-nodes[kafka]'") from error

__all__ = ["check", "confluent_kafka", "opened", "text_of"]


def opened(make: Callable[[dict[str, Any]], Any], config: Mapping[str, Any], on_error: Callable[[object], None]) -> Any:
    """Return a client of librdkafka.

    Parameters
    ----------
    make : callable
        The client's class.
    config : mapping
        Settings of librdkafka.
    on_error : callable
        Called with each error that librdkafka reports.

    Raises
    ------
    BadRequest
        If librdkafka does not accept the settings.
    """
    # Errors are logged by the callback; librdkafka's own log would repeat them.
    ours = {"error_cb": on_error, "log_level": 2}
    try:
        return make(ours | dict(config))
    except (confluent_kafka.KafkaException, ValueError, TypeError) as error:
        raise BadRequest(f"librdkafka does not take the settings: {text_of(error)}") from error


def check(make: Callable[[dict[str, Any]], Any], config: Mapping[str, Any]) -> None:
    """Raise BadRequest unless librdkafka accepts the settings; no broker is asked."""
    offline = {key: value for key, value in config.items() if key != "bootstrap.servers"}
    opened(make, offline, lambda _: None)


def text_of(error: object) -> str:
    """Return the text of an error of librdkafka."""
    first = error.args[0] if isinstance(error, Exception) and error.args else error
    return str(first.str() if hasattr(first, "str") else first)
