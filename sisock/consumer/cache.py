"""A cache of final answers, so that reading the past again costs no call."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace

from sisock.clockwatch import ClockWatch
from sisock.consumer.data import Data
from sisock.times import SYSTEM_CLOCK, Clock
from sisock.wamp.wire import bytes_of


class FinalAnswers:
    """Final answers, up to a number of bytes; the least recently used are dropped first.

    Parameters
    ----------
    most_bytes : int
        Bytes of the samples that are kept; 0 keeps none.
    clock : Clock, optional
    """

    def __init__(self, most_bytes: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._most, self._clock = most_bytes, clock
        self._answers: OrderedDict[Hashable, tuple[Data, int]] = OrderedDict()
        self._bytes = self._hits = self._misses = 0
        self._resets: dict[tuple[str, str], int] = {}
        self._watch = ClockWatch(clock)

    def get(self, question: Hashable) -> Data | None:
        """Return the answer to a question, if it is here."""
        if (jump := self._watch.jump()) and jump[1] < 0:
            self.clear()  # an interval that was past by a clock that was ahead may not be past now
        if question not in self._answers:
            self._misses += 1
            return None
        self._hits += 1
        self._answers.move_to_end(question)
        return _copy(self._answers[question][0])

    def put(self, question: Hashable, start: float, end: float, answer: Data) -> None:
        """Keep an answer, if nothing of it can change: all fields were found, and it is final as a whole."""
        for name, samples in answer.timelines.items():
            self.reset(answer.node, name, samples.reset)
        final = all(samples.finalized_until is None for samples in answer.timelines.values())
        past = start > 0 and 0 < end <= self._clock.now()
        if not past or not answer.timelines or answer.lacks_some or not final:
            return
        size = _size(answer)
        if size > self._most or question in self._answers:
            return
        for samples in answer.timelines.values():
            for array in (samples.t, *samples.columns.values()):
                array.setflags(write=False)  # it is handed out again
        self._answers[question] = _copy(answer), size
        self._bytes += size
        while self._bytes > self._most:
            self._bytes -= self._answers.popitem(last=False)[1][1]

    def reset(self, node: str, timeline: str, number: int) -> None:
        """Forget the answers about a timeline from before its newest reset, see `sisock.fields.Samples`."""
        if number <= self._resets.get((node, timeline), 0):
            return
        self._resets[node, timeline] = number
        for question, (answer, size) in list(self._answers.items()):
            samples = answer.timelines.get(timeline) if answer.node == node else None
            if samples is not None and samples.reset < number:
                del self._answers[question]
                self._bytes -= size

    def clear(self) -> None:
        """Forget all answers."""
        self._answers.clear()
        self._bytes = 0

    def info(self) -> dict[str, int]:
        """Return the counts of hits and misses, and how much is kept."""
        return {
            "hits": self._hits,
            "misses": self._misses,
            "answers": len(self._answers),
            "bytes": self._bytes,
        }


def _size(answer: Data) -> int:
    return sum(bytes_of([s.t, *s.columns.values()]) for s in answer.timelines.values())


def _copy(answer: Data) -> Data:
    """Return an answer with the same arrays, and else nothing that whoever gets it could change for others."""
    timelines = {
        name: replace(
            samples,
            columns=dict(samples.columns),
            gaps=list(samples.gaps),
            epochs={field: list(known) for field, known in samples.epochs.items()},
        )
        for name, samples in answer.timelines.items()
    }
    return Data(answer.node, timelines, (), dict(answer.fields))
