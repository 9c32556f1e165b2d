"""The rig of the demo: a beam in `examples/`, as the site file has it."""

from pathlib import Path

import numpy as np

from sisock.node import open_node
from sisock.settings import HistorySettings
from sisock.site import load_site

EXAMPLES = Path(__file__).parents[2] / "examples"


def opened(name, clock):
    """Return a node of the demo's site file, with its history in memory."""
    settings = load_site(EXAMPLES / "demo").nodes[name].model_copy(update={"history": HistorySettings()})
    return open_node(name, settings, clock=clock)


def test_beam_is_measured_without_gaps_and_reports_its_load(sisock_stepped_site):
    site, clock = sisock_stepped_site, sisock_stepped_site.clock
    site.serve(opened("rig", clock))
    clock.wait_for_sleepers(1)
    site.run(90.0)
    with site.consumer() as consumer:
        data = consumer.data("rig", ["beam"], -80.0, -1.0)
        np.testing.assert_allclose(np.diff(data.t("beam")), 1 / 200, atol=1e-6)
        assert 790.0 < max(data["beam"]) < 810.0
        kinds = [(event.kind, event.text.partition(":")[0]) for event in consumer.events("rig").events]
    assert {("load", "the load comes"), ("load", "the load has gone")} <= set(kinds)
