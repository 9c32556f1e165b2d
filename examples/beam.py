"""A beam under a load that comes and goes: 200 samples a second, in batches, and an event when the load changes."""

import numpy as np

from sisock import Field, Timeline
from sisock.fields import as_batch
from sisock.metrics import Counters
from sisock.source import InThread

RATE, CYCLE_S = 200, 60.0


class Beam(InThread):
    def __init__(self, context):
        super().__init__("beam")
        field = Field("beam", units="µm/m", description="Strain; the beam vibrates faster under load")
        self.timelines = [Timeline("strain", [field], interval_s=1 / RATE, lateness_s=0.5)]
        self.counters, self.context = Counters("batches"), context
        self.phase, self.noise = 0.0, np.random.default_rng(1)

    def _run(self, emit):
        clock, peak, was_loaded = self.context.clock, 0.0, False
        number = int(clock.now() * RATE)
        while not clock.wait(self._stop, 0.1):
            numbers = np.arange(number, int(clock.now() * RATE))
            if not len(numbers):
                continue
            t, number = numbers / RATE, int(numbers[-1]) + 1
            load = np.maximum(0.0, np.sin(2 * np.pi * t / CYCLE_S))
            strain = self.strain(load)
            emit(as_batch("strain", t, {"beam": strain}))
            self.counters.add("batches")
            peak = max(peak, float(strain.max()))
            if (is_loaded := bool(load[-1])) != was_loaded:
                text = "the load comes" if is_loaded else f"the load has gone: up to {peak:.0f} µm/m"
                self.context.events.report("load", "beam", text)
                peak, was_loaded = 0.0, is_loaded

    def strain(self, load):
        phases = self.phase + 2 * np.pi * np.cumsum(20.0 + 25.0 * load) / RATE
        self.phase = phases[-1] % (2 * np.pi)
        return 800.0 * load + 5.0 * np.sin(phases) + self.noise.normal(0.0, 0.3, len(load))
