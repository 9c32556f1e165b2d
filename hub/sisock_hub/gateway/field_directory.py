"""The fields of all nodes, cached for some seconds."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sisock.consumer.info import FieldInfo
from sisock.errors import SisockError
from sisock.times import Clock
from sisock_hub.gateway.query_client import QueryClient, warning

TIMEOUT_S = 10.0
"""Seconds within which a node must list its fields."""
CACHED_S = 5.0
"""Seconds for which a node's fields, or its error, are cached."""


@dataclass(slots=True)
class _Cached:
    """The newest answer of one node."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    until: float = -1.0
    fields: Mapping[str, FieldInfo] = field(default_factory=dict)
    warning: str | None = None


class FieldDirectory:
    """Lists the fields of all nodes; a node that fails costs only its own fields.

    Parameters
    ----------
    client : QueryClient
    clock : Clock
    timeout_s : float
        Seconds within which a node must answer.
    """

    def __init__(self, client: QueryClient, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self._client, self._clock = client.with_timeout(timeout_s), clock
        self._cached: dict[str, _Cached] = {}

    async def fields(
        self, wanted: Callable[[str], bool] = lambda _node: True, *, arrays: bool = False
    ) -> tuple[dict[str, Mapping[str, FieldInfo]], list[str]]:
        """Return the fields of all nodes whose name is `wanted`, and warnings about those that did not answer.

        Array fields are left out unless `arrays` is set: neither Grafana nor Prometheus has a series for them.

        Raises
        ------
        SisockError
            If the router or the hub does not answer.
        """
        names = await self._client.nodes()
        self._cached = {name: self._cached.get(name) or _Cached() for name in names}
        chosen = [name for name in names if wanted(name)]
        cached = await asyncio.gather(*(self._of(name, self._cached[name]) for name in chosen))
        found: dict[str, Mapping[str, FieldInfo]] = {
            name: each.fields if arrays else {field: info for field, info in each.fields.items() if not info.shape}
            for name, each in zip(chosen, cached, strict=True)
            if each.warning is None
        }
        return found, [each.warning for each in cached if each.warning is not None]

    async def _of(self, name: str, cached: _Cached) -> _Cached:
        async with cached.lock:
            if self._clock.monotonic() >= cached.until:
                try:
                    cached.fields, cached.warning = await self._client.fields(name), None
                except SisockError as error:
                    cached.fields, cached.warning = {}, warning(name, error)
                cached.until = self._clock.monotonic() + CACHED_S
        return cached
