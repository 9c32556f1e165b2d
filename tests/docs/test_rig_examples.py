"""The rig of the demo: a beam in `examples/`, as the site file has it."""

from pathlib import Path

import numpy as np

from sisock.consumer import BlockingConsumer
from sisock.node import open_node
from sisock.settings import HistorySettings
from sisock.site import load_site
from tests.site.gateway import wait

EXAMPLES = Path(__file__).parents[2] / "examples"


def opened(name, **how):
    """Return a node of the demo's site file, with its history in memory."""
    settings = load_site(EXAMPLES / "demo").nodes[name].model_copy(update={"history": HistorySettings()})
    return open_node(name, settings, **how)


def test_beam_is_measured_without_gaps_and_reports_its_load(sisock_stepped_site):
    site, clock = sisock_stepped_site, sisock_stepped_site.clock
    site.serve(opened("rig", clock=clock))
    clock.wait_for_sleepers(2)  # the node, and its source
    site.run(90.0)
    with site.consumer() as consumer:
        data = consumer.data("rig", ["beam"], -80.0, -1.0)
        np.testing.assert_allclose(np.diff(data.t("beam")), 1 / 200, atol=1e-6)
        assert 790.0 < max(data["beam"]) < 810.0
        kinds = [(event.kind, event.text.partition(":")[0]) for event in consumer.events("rig").events]
    assert {("load", "the load comes"), ("load", "the load has gone")} <= set(kinds)


def test_spectrum_has_at_most_thirty_lines_of_code():
    code = (EXAMPLES / "spectrum.py").read_text().partition("class Spectrum")[2]
    assert len(code.splitlines()) <= 30


def test_spectrum_follows_the_strain_of_the_rig(sisock_router, sisock_serve):
    access = sisock_router.access("server")
    sisock_serve(opened("spectrum", access=access))
    sisock_serve(opened("rig", access=access))
    with BlockingConsumer(sisock_router.access()) as consumer:
        wait(lambda: "spectrum" in consumer.fields("spectrum"))
        spectrum = consumer.fields("spectrum")["spectrum"]
        assert (spectrum.shape, spectrum.axis.name, spectrum.axis.units) == ((257,), "frequency", "Hz")
        wait(lambda: len(consumer.data("spectrum", ["spectrum"], -60.0)["spectrum"]) > 2)
        data = consumer.data("spectrum", ["spectrum"], -60.0)
        np.testing.assert_allclose(np.diff(data.t("spectrum")), 0.5, atol=1e-6)
        peaks = np.array(spectrum.axis.values)[np.argmax(data["spectrum"][:, 10:], axis=1) + 10]
        assert np.all((peaks > 19.0) & (peaks < 47.0))
