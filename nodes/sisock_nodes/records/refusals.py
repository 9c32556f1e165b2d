"""Noticing that every sample of a source is refused for its time, as with a wrong unit."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sisock.fields import FloatArray
from sisock.outage import OutageLog
from sisock.times import UnitGuess, refusal

_LOOKED_AT = 1000
# Samples in a row that are refused before that is reported, once any was accepted.
_IN_A_ROW = 10


class Refusals:
    """Reports an outage while all samples of a source are refused.

    Parameters
    ----------
    outages : OutageLog
    what : str
        Of what the samples are, as it reads at the start of a log line.
    scales : sequence of float
        Seconds in the unit of their times, as it is set; the first, where several values are added.
    setting : str or callable
        The setting that has these; or what returns what is to be set if their times are of a unit.
    """

    def __init__(
        self, outages: OutageLog, what: str, scales: Sequence[float], setting: str | Callable[[UnitGuess], str]
    ) -> None:
        self._outages, self._what, self._scale = outages, what, scales[0]
        if isinstance(setting, str):
            name = setting if len(scales) == 1 else f"the first of {setting}"
            self._setting: Callable[[UnitGuess], str] = lambda guess: f"Set {name} to {guess.scale:g}"
        else:
            self._setting = setting
        self._in_a_row = _IN_A_ROW

    def saw(self, t: FloatArray, accepted: NDArray[np.bool_], now: float) -> None:
        """Look at the times of some samples, and which of them are accepted; shape (n,)."""
        if accepted.any():
            self._in_a_row = 0
            self._outages.recovered(self._what)
        elif len(t):
            self._in_a_row += len(t)
            if self._in_a_row >= _IN_A_ROW:
                self._outages.failed(self._what, refusal(t[:_LOOKED_AT].tolist(), now, self._scale, self._setting))
