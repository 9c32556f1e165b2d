"""A node that follows another one: the spectrum of the rig's strain, twice a second, as an array field."""

import numpy as np

from sisock import Field, Timeline
from sisock.fields import as_batch
from sisock.metrics import Counters
from sisock.shapes import Axis
from sisock.source import InThread

RATE, LENGTH, STEP = 200, 512, 100  # samples: a second, of a spectrum, between spectra
WINDOW, PLACES = np.hanning(LENGTH), np.arange(LENGTH)


class Spectrum(InThread):
    def __init__(self, context):
        super().__init__("spectrum", patience_s=1.0)
        axis = Axis("frequency", np.fft.rfftfreq(LENGTH, 1 / RATE), "Hz")
        field = Field("spectrum", units="µm/m", shape=(LENGTH // 2 + 1,), axis=axis)
        self.timelines = [Timeline("spectra", [field], STEP / RATE, follows_clock=False, live=True, expect_every=10.0)]
        self.counters, self.context = Counters("spectra"), context

    def _run(self, emit):
        t = strain = np.empty(0)
        for batch in self.context.follow("rig", "strain"):  # each sample once, also those that were missed
            if batch.gap_from is not None:
                t, strain = t[:0], strain[:0]
            t, strain = np.append(t, batch.t), np.append(strain, batch["beam"])
            while len(t) >= LENGTH:
                drift = np.polynomial.Polynomial.fit(PLACES, strain[:LENGTH], 2)(PLACES)
                spectrum = np.abs(np.fft.rfft((strain[:LENGTH] - drift) * WINDOW)) * 2 / WINDOW.sum()
                emit(as_batch("spectra", t[LENGTH - 1], {"spectrum": [spectrum]}))
                self.counters.add("spectra")
                t, strain = t[STEP:], strain[STEP:]
