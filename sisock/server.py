"""The session of a node: it comes and goes with the router, while the node keeps measuring."""

import logging
import math
from typing import Any, Literal

from autobahn.wamp.types import CloseDetails, ComponentConfig, SessionDetails
from twisted.internet.threads import deferToThread

from sisock.base import DataNodeServer
from sisock.downsample import METHODS
from sisock.errors import TooLarge
from sisock.fields import Reply
from sisock.node import Node
from sisock.times import Interval
from sisock.wamp.chunks import CHUNK
from sisock.wamp.publisher import Publisher
from sisock.wamp.question import Question
from sisock.wamp.watermarks import WatermarkPublisher
from sisock.wamp.wire import axis_content, epoch_content

log = logging.getLogger(__name__)


class HistoryServer(DataNodeServer):
    """The session of a `Node`: answers from its history and publishes its feeds while it is joined."""

    def __init__(self, node: Node, config: ComponentConfig | None = None) -> None:
        allowance = node.allowance
        self.allowance, self.allowance_bytes, self.big_reads = allowance.values, allowance.bytes, allowance.big_reads
        self.answer_memory = allowance.memory
        super().__init__(config)
        self.node = node
        self.name, self.description = node.name, node.description
        self._work = node.work
        self._clock = node.clock
        self._publisher: Publisher | None = None
        self._watermarks: WatermarkPublisher | None = None

    def after_onJoin(self, details: SessionDetails) -> Any:
        """Open the feeds."""
        self._publisher = Publisher(self, self.node.name, self.counters, self._interest)
        self._watermarks = WatermarkPublisher(self._publisher, self.node.take_watermark, self.node.work.timers)
        self.node.listen(self._publisher)
        return self._interest.open()

    def onLeave(self, details: CloseDetails) -> None:
        """Close the feeds."""
        if self._watermarks is not None:
            self._watermarks.close()
        if self._publisher is not None:
            self.node.unlisten(self._publisher)
            self._publisher = None
        super().onLeave(details)

    def get_fields_blocking(self, start: float, end: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the fields that have a sample in the interval, and their timelines."""
        found = self.node.history.within(Interval(start, end))
        epochs = self.node.history.epochs(Interval(start, end))
        fields: dict[str, Any] = {
            field.name: {
                "description": field.description,
                "timeline": timeline.name,
                "type": field.type,
                "units": field.units,
                **({"shape": list(field.shape)} if field.shape else {}),
                **({"axis": axis_content(field.axis)} if field.axis else {}),
            }
            for timeline in found
            for field in timeline.fields
        }
        for timeline in found:
            for name, known in epochs[timeline.name].items():
                fields[name]["epochs"] = [epoch_content(*each) for each in known]
        timelines = {
            timeline.name: {"interval": timeline.interval_s, "field": [field.name for field in timeline.fields]}
            for timeline in found
        }
        return fields, timelines

    def get_reply(self, question: Question) -> Any:
        """Return the reply of the history; from its summaries where that is enough."""
        return deferToThread(self._read, question)

    def _read(self, question: Question) -> Reply | Literal[False]:
        history, fields, interval, most = self.node.history, question.fields, question.interval, self.allowance
        try:
            if question.wants_all:
                # Counted beforehand: what will not be sent need not be read.
                return history.count(fields, interval) <= most and history.read(fields, interval)
            how = question.method, question.min_stride, question.max_points
            return history.downsampled(fields, interval, *how, most=most)
        except TooLarge as error:
            log.warning("%s", error.message)
            return False

    def cost(self, question: Question) -> Any:
        """Return how many bytes the samples take that have to be in memory for a reply, at the most."""
        history, interval = self.node.history, question.interval
        values = history.values_per_sample(question.fields, interval)
        # More than the allowance is refused before it is read, or as soon as that is known.
        needs_all = METHODS[question.method].needs_all_samples
        most = math.inf if needs_all else self.allowance
        if not needs_all and question.max_points is not None:
            most = min(most, 2 * question.max_points * values)
        elif not needs_all and question.min_stride:
            most = min(most, 2 * values * (1 + (interval.end - interval.start) / question.min_stride))
        if 8 * most <= CHUNK:
            return 0

        def count() -> int:
            if needs_all or question.wants_all:
                values = history.count(question.fields, interval)
                return 0 if values > most else 8 * values
            return int(8 * min(most, history.at_most(question.fields, interval)))

        return deferToThread(count) if history.on_disk else count()

    def status(self) -> dict[str, Any]:
        """Return the node's health and counters, and those of the session."""
        status = self.node.status()
        memory = self.reply_sender.memory
        status["answers"] = {
            "bytes": memory.used,
            "peak_bytes": memory.peak,
            "max_bytes": memory.size,
            "waiting": memory.waiting,
        }
        status["counters"] |= self.counters.as_dict()
        if (publisher := self._publisher) is not None:
            for name, about in status["timelines"].items():
                about["subscribed"] = publisher.is_subscribed(name)
        status |= self._work.status()
        return {"name": self.name, "description": self.description, "watermarks": True, **status}
