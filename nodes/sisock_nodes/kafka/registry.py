"""A schema registry: the schemas that messages name by number."""

import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sisock.errors import BadData, BadRequest, MissingExtra
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.times import Clock
from sisock_nodes.kafka.errors import NoRegistry
from sisock_nodes.kafka.registry_settings import RegistrySettings

try:
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError
except ModuleNotFoundError as error:
    raise MissingExtra(
        "formats avro and protobuf need a client of schema registries; run: pip install 'sisock-nodes[kafka-schemas]'"
    ) from error

AGAIN_S = 1.0
"""How long an unreachable registry is not asked again, in seconds."""
# Subject, version and schema that do not exist. Other answers with 404 mean that the address is invalid.
_NOT_THERE = (40401, 40402, 40403)
_MOST_IDS = 2**31

log = logging.getLogger(__name__)


class SchemaRegistry:
    """Asks a registry for schemas, and logs its outages.

    Parameters
    ----------
    settings : RegistrySettings
    clock : Clock
    counters : Counters
        ``registry_errors`` counts every failure.
    client : object, optional
        Of confluent-kafka; by default one for the settings.

    Raises
    ------
    BadRequest
        If the client does not take the settings.
    """

    def __init__(self, settings: RegistrySettings, clock: Clock, counters: Counters, client: Any = None) -> None:
        self._clock = clock
        self._name = f"schema registry at {settings.url}"
        self._outages = OutageLog(clock, log, partial(counters.add, "registry_errors"))
        self._error, self._asked_again = "", -math.inf  # of the present outage
        counters.add("registry_errors", 0)
        try:
            self._client = client or SchemaRegistryClient(settings.client())
        except (ValueError, TypeError, OSError) as error:
            raise BadRequest(f"the client of the schema registry does not take the settings: {error}") from error

    def schema(self, number: int, form: str | None = None) -> Any:
        """Return a schema by its number, as confluent-kafka has it.

        Parameters
        ----------
        number : int
        form : str, optional
            The form in which the registry is to return it.

        Raises
        ------
        BadData
            If there is none of that number.
        NoRegistry
            If the registry is unreachable.
        """
        if number >= _MOST_IDS:
            raise BadData(f"{number} is not a valid number of a schema")
        return self._asked(partial(self._client.get_schema, number, fmt=form), f"schema {number}")

    def references(self, schema: Any, form: str | None = None) -> Iterator[tuple[str, Any]]:
        """Yield the schemas that one refers to, by the names that it has for them.

        Raises
        ------
        BadData
            If one is not there.
        NoRegistry
            If the registry is unreachable.
        """
        for each in schema.references or ():
            what = f"version {each.version} of {each.subject}"
            # Deleted ones, too: messages outlive them.
            ask = partial(self._client.get_version, each.subject, each.version, True, form)
            yield each.name, self._asked(ask, what).schema

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _asked(self, ask: Callable[[], Any], what: str) -> Any:
        if self._clock.monotonic() < self._asked_again:
            raise NoRegistry(f"{self._name}: {self._error}")
        try:
            found = ask()
        except SchemaRegistryError as error:
            if error.error_code in _NOT_THERE:
                self._recovered()
                raise BadData(f"{what} is not in the registry") from error
            raise self._unreachable(f"{error.error_message} (HTTP {error.http_status_code})") from error
        except Exception as error:  # of the HTTP client, or an answer of something other than a registry
            raise self._unreachable(f"{type(error).__name__}: {error}") from error
        self._recovered()
        return found

    def _unreachable(self, why: str) -> NoRegistry:
        self._outages.failed(self._name, f"{why}; messages wait for it")
        self._error, self._asked_again = why, self._clock.monotonic() + AGAIN_S
        return NoRegistry(f"{self._name}: {why}")

    def _recovered(self) -> None:
        self._outages.recovered(self._name)
        self._asked_again = -math.inf
