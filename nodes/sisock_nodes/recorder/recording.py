"""Recording one timeline of another node: its samples, under names that have the node's, go into our history."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sisock.fields import Batch, Field, Timeline
from sisock.metrics import Counters
from sisock.source import Emit
from sisock.watermark import SetBack

if TYPE_CHECKING:
    from sisock.consumer import Following

OF = "::"
"""Stands between a node's name and that of its timeline or field."""

log = logging.getLogger(__name__)


class Recording:
    """A timeline of another node on its way into our history.

    Parameters
    ----------
    node, timeline : str
    emit : Emit
    counters : Counters
        Samples that a reset removes are counted there, as ``set_back``.
    """

    def __init__(self, node: str, timeline: str, emit: Emit, counters: Counters) -> None:
        self.recorded: Timeline | None = None
        """The timeline that it becomes here; None until its fields are known."""
        self._node, self._name = node, f"{node}{OF}{timeline}"
        self._emit, self._counters = emit, counters
        self._fields: Sequence[Field] = ()
        self._following: Following | None = None

    async def record(self, following: "Following") -> None:
        """Record what is followed, for ever."""
        self._following = following
        while True:
            item = await following.next_item()
            if self._fields != following.fields:
                self.stored_until(following.fields)
            if self.recorded is None:
                continue  # a reset of a timeline without samples; it is listed again once it has some
            if isinstance(item, SetBack):
                moved = self._emit.set_back(self._name, item.number, item.finalized_until, item.removed_from)
                self._counters.add("set_back", moved)
            else:
                self._emit(self._as_ours(item))

    def stored_until(self, fields: Sequence[Field]) -> float | None:
        """Record these fields from now on, and return the watermark here."""
        if self.recorded is None:
            log.info("recording %s", self._name)
        if self.recorded is None or self._fields != fields:
            self._fields = fields
            ours = [replace(field, name=f"{self._node}{OF}{field.name}") for field in fields]
            interval_s = self._following.interval_s if self._following else None
            self.recorded = Timeline(self._name, ours, interval_s, lateness_s=math.inf, follows_clock=False)
        return self._emit.add(self.recorded)

    def _as_ours(self, batch: Batch) -> Batch:
        columns = {f"{self._node}{OF}{name}": values for name, values in batch.columns.items()}
        return replace(batch, timeline=self._name, columns=columns)
