"""A data node that answers from a formula: the published contract, with its blocking hooks."""

import numpy as np

from sisock import DataNodeServer, run


class Sine(DataNodeServer):
    name = "sine"
    description = "A sine wave of one minute, ten samples a second"

    def get_fields_blocking(self, start, end):
        field = {"description": "Sine", "timeline": "wave", "type": "number", "units": "V"}
        return {"sine": field}, {"wave": {"interval": 0.1, "field": ["sine"]}}

    def get_data_blocking(self, field, start, end, min_stride=None):
        t = np.arange(np.ceil(start * 10), np.ceil(end * 10)) / 10
        data = {name: np.sin(t * 2 * np.pi / 60) for name in field if name == "sine"}
        return {"data": data, "timeline": {"wave": {"t": t, "finalized_until": None}}}


if __name__ == "__main__":
    run(Sine)
