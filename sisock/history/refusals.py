"""Reporting timelines of which every sample is refused, and why."""

import numpy as np

from sisock.fields import Batch, FloatArray
from sisock.outage import OutageLog
from sisock.times import FARTHEST_S, UnitGuess, guess_unit, iso, refusal


class Refusals:
    """Reports, as an outage of a timeline, that its samples are too old, or have times that cannot be.

    Parameters
    ----------
    keep_s : float
        For how long samples are kept, in seconds.
    outages : OutageLog
    """

    def __init__(self, keep_s: float, outages: OutageLog) -> None:
        self._keep_s, self._outages = keep_s, outages
        self._refused: set[str] = set()  # timelines

    def check(self, batch: Batch, stored: Batch | None, now: float) -> None:
        """Begin or end the outage of a timeline.

        Parameters
        ----------
        batch : Batch
        stored : Batch or None
            The part of it that was stored.
        now : float
            UNIX seconds.
        """
        # Samples that are stored and not too old are accepted; late and repeated ones are not refused.
        if stored is not None and stored.t[-1] >= now - self._keep_s:
            if batch.timeline in self._refused:
                self._refused.discard(batch.timeline)
                self._outages.recovered(f"timeline {batch.timeline}")
        elif len(batch) and (stored is not None or not np.any(np.abs(batch.t) <= FARTHEST_S)):
            self._refused.add(batch.timeline)
            why = self._reason(batch.t if stored is None else stored.t, now)
            self._outages.failed(f"timeline {batch.timeline}", why)

    def _reason(self, t: FloatArray, now: float) -> str:
        """Return why all samples with such times are refused; their unit is not known."""
        last = float(t[-1])
        scale = next((each for each in (1.0, 1e-3, 1e-6, 1e-9) if guess_unit(last, now, each)), None)
        if scale is None and abs(last) <= FARTHEST_S:
            return f"all samples are older than history.keep, which is {self._keep_s:g} s; there is one of {iso(last)}"

        def remedy(guess: UnitGuess) -> str:
            return f"Their times are to be multiplied by {guess.scale / (scale or 1.0):g}"

        return refusal(t[:1000].tolist(), now, scale or 1.0, remedy)
