"""What source and sink have in common: making a client of librdkafka, and saying once what it has to complain of."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sisock.errors import BadRequest, MissingExtra
from sisock.metrics import Counters

try:
    import confluent_kafka
except ModuleNotFoundError as error:
    raise MissingExtra("Kafka needs confluent-kafka; run: pip install 'sisock-nodes[kafka]'") from error

__all__ = ["Troubles", "check", "confluent_kafka", "opened", "text_of"]

log = logging.getLogger(__name__)


class Troubles:
    """Says that brokers fail, and that they work again, once each.

    Parameters
    ----------
    what : str
        That fails.
    meanwhile : str
        What is done as long as it does.
    counters : Counters
        Of which ``errors`` counts every failure.
    """

    def __init__(self, what: str, meanwhile: str, counters: Counters) -> None:
        self._what, self._meanwhile, self._counters = what, meanwhile, counters
        self._failing = False

    def failed(self, error: object) -> None:
        """Count a failure: an exception, a KafkaError or a text."""
        if not self._failing:
            log.warning("%s: %s; %s", self._what, text_of(error), self._meanwhile)
        self._failing = True
        self._counters.add("errors")

    def works(self) -> None:
        """Hear that there is no failure any more."""
        if self._failing:
            log.warning("%s is back", self._what)
        self._failing = False


def opened(make: Callable[[dict[str, Any]], Any], config: Mapping[str, Any], troubles: Troubles) -> Any:
    """Return a client of librdkafka, whose errors go to `troubles`.

    Raises
    ------
    BadRequest
        If librdkafka does not take the settings.
    """
    # The callback says errors once; librdkafka's own log would say them again and again.
    ours = {"error_cb": troubles.failed, "log_level": 2}
    try:
        return make(ours | dict(config))
    except (confluent_kafka.KafkaException, ValueError, TypeError) as error:
        raise BadRequest(f"librdkafka does not take the settings: {text_of(error)}") from error


def check(make: Callable[[dict[str, Any]], Any], config: Mapping[str, Any]) -> None:
    """Raise BadRequest unless librdkafka takes the settings; no broker is asked."""
    offline = {key: value for key, value in config.items() if key != "bootstrap.servers"}
    opened(make, offline, Troubles("checking", "going on", Counters()))


def text_of(error: object) -> str:
    """Return what librdkafka says is wrong."""
    first = error.args[0] if isinstance(error, Exception) and error.args else error
    return str(first.str() if hasattr(first, "str") else first)
