"""Exporting, importing and serving again, through real commands and a real router."""

import json

import numpy as np
import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.fields import as_batch
from sisock.history import History
from sisock.node import open_node
from sisock.recording import create_recording
from sisock.settings import HistorySettings
from sisock_nodes.file.settings import FileSettings
from tests.commands import sisock

T0 = 1_600_000_000.0


@pytest.fixture
def night(tmp_path):
    """A recording of a night."""
    line = Timeline("dome", [Field("temperature", units="°C"), Field("open", "bool")], 1.0)
    t = T0 + np.arange(250_000.0)
    with create_recording(tmp_path / "night.parquet") as recording:
        recording.append(line, as_batch("dome", t[:1000], {"temperature": np.sin(t[:1000]), "open": t[:1000] > 0}))
        rest = as_batch("dome", t[2000:], {"temperature": np.sin(t[2000:]), "open": t[2000:] > 0}, gap_from=t[999])
        recording.append(line, rest)
    return tmp_path / "night.parquet"


def test_recording_is_imported_shown_and_served(night, tmp_path, sisock_router, sisock_serve, unique):
    done = sisock("import", night, "--into", "archive", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"file": str(night), "timeline": "dome", "samples": 249_000}]
    shown = sisock("history", "archive", cwd=tmp_path)
    assert (
        "dome\t2\t249,000\t2020-09-13T12:26:40.000Z\t2020-09-16T09:53:19.000Z\t2020-09-16T09:53:19.000Z" in shown.stdout
    )
    told = json.loads(sisock("history", "archive", "--json", cwd=tmp_path).stdout)
    assert told["fields"] == {"dome": ["temperature", "open"]}
    assert told["timelines"]["dome"]["samples"] == 249_000
    sisock_serve(open_node(unique, FileSettings(type="file", path=tmp_path / "archive")))
    with BlockingConsumer(sisock_router.access()) as consumer:
        assert consumer.fields(unique)["temperature"].units == "°C"
        assert consumer.fields(unique)["temperature"].interval_s == 1.0
        data = consumer.data(unique, ["temperature", "open"], T0, T0 + 250_000, max_points=500, downsample="minmax")
        assert data.timelines["dome"].gaps == [(T0 + 999, T0 + 2000)]
        assert data.timelines["dome"].finalized_until > T0 + 249_998  # more may be imported after it
        assert 100 < len(data["temperature"]) <= 500
        assert data["open"].all()


def test_import_that_overlaps_changes_nothing(night, tmp_path):
    assert sisock("import", night, "--into", "archive", cwd=tmp_path).returncode == 0
    before = sorted(path.name for path in (tmp_path / "archive").rglob("*"))
    again = sisock("import", night, "--into", "archive", cwd=tmp_path)
    assert again.returncode == 2
    assert "timeline 'dome': there are samples from 1600000000.0 to" in again.stderr
    assert sorted(path.name for path in (tmp_path / "archive").rglob("*")) == before


def test_history_that_a_node_runs_on_is_not_imported_into(night, tmp_path):
    history = History([Timeline("x", [Field("y")])], HistorySettings(path=tmp_path / "used"))
    done = sisock("import", night, "--into", "used", cwd=tmp_path)
    history.close()
    assert done.returncode == 2
    assert "is in use by the process with pid" in done.stderr


def test_folder_that_is_no_history_is_told(tmp_path):
    done = sisock("history", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a history: it has neither a manifest nor segments" in done.stderr
