"""Whom the gateway asks."""

from collections.abc import Sequence
from typing import Protocol

from sisock.consumer.data import Data, FieldInfo, NodeInfo
from sisock.downsample import Method


class Asker(Protocol):
    """What the gateway needs of `sisock.consumer.Consumer`."""

    async def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows."""
        ...

    async def fields(self, node: str) -> dict[str, FieldInfo]:
        """Return all fields of `node`, by name."""
        ...

    async def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float = 0.0,
        min_stride: float | None = None,
        *,
        downsample: Method = "first",
        max_points: int | None = None,
    ) -> Data:
        """Return samples of some fields of `node`."""
        ...
