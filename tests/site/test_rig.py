"""The example of a test rig, as a user runs it."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sisock.consumer import BlockingConsumer
from sisock.errors import SisockError
from sisock.site import load_site
from sisock.testing.fixtures import free_ports

RIG = Path(__file__).parents[2] / "examples" / "rig"


@pytest.fixture
def site(tmp_path):
    shutil.copytree(RIG, tmp_path, dirs_exist_ok=True)
    router, raw, port, catman, hall, gateway = free_ports(6)
    text = (tmp_path / "site.yaml").read_text()
    for before, after in ((5000, port), (5001, catman), (5002, hall)):
        text = text.replace(f"port: {before}", f"port: {after}")
    text = text.replace("gateway:\n", f"gateway:\n  port: {gateway}\n")
    (tmp_path / "site.yaml").write_text(f"router: {{port: {router}, rawsocket_port: {raw}}}\n{text}")
    code = (tmp_path / "rig.py").read_text()
    (tmp_path / "rig.py").write_text(
        code.replace("CATMAN_PORT, HALL_PORT = 5001, 5002", f"CATMAN_PORT, HALL_PORT = {catman}, {hall}")
    )
    subprocess.run([sys.executable, "-m", "sisock", "init", str(tmp_path)], check=True, capture_output=True)
    with (tmp_path / "log").open("w") as log:
        up = subprocess.Popen([sys.executable, "-m", "sisock", "up", str(tmp_path)], stdout=log)
        yield load_site(tmp_path), port
        up.terminate()
        up.wait(60.0)


def test_rig_is_recorded_and_served(site):
    site, port = site
    rig = [sys.executable, str(site.folder / "rig.py"), "127.0.0.1", str(port), "60"]
    with subprocess.Popen(rig, stdout=subprocess.DEVNULL) as sender:
        try:
            with BlockingConsumer(site.access(), patience_s=60.0) as consumer:
                deadline = time.monotonic() + 60.0
                while True:
                    try:
                        data = consumer.data("rig", ["strain.beam", "hall.phase", "hall.door", "hall.temperature"], 1.0)
                        if len(data["strain.beam"]) >= 400 and len(data["hall.phase"]) >= 20:
                            break
                    except SisockError:
                        pass  # not up yet
                    assert time.monotonic() < deadline, (site.folder / "log").read_text()
                    time.sleep(0.1)
                status = consumer.status("rig")
        finally:
            sender.terminate()
    assert data.units("strain.beam") == "µm/m"
    assert data.fields["hall.door"].type == "bool"
    assert set(data["hall.phase"]) <= {"load", "rest"}
    assert np.all(np.abs(data["hall.temperature"] - 21.0) <= 1.001)
    assert np.median(np.diff(data.t("strain.beam"))) == pytest.approx(1 / 200, rel=0.5)
    counts = {source["part"]: source["counters"] for source in status["sources"] if "part" in source}
    assert counts["strain"]["lost"] == counts["strain"]["wrong_length"] == counts["hall"]["wrong_length"] == 0
    assert status["timelines"]["hall"]["late"] == status["timelines"]["strain"]["late"] == 0
