"""Our answers, read by Grafana's own library (npm's @grafana/data)."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.hub.gateway.grafana_site import BEGIN, FROM, TO, Gateway, query, standard, tank
from tests.npm import installed

HERE = Path(__file__).parents[2] / "grafana"

pytestmark = [pytest.mark.xdist_group("node"), pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A folder with @grafana/data in the version of the lock file."""
    return installed("grafana", tmp_path_factory.mktemp("grafana"))


@pytest.fixture
def read(library):
    """Reads answers as Grafana does: {name: items} becomes {name: frames}."""

    def reading(answers):
        done = subprocess.run(
            ["node", str(HERE / "frames.mjs"), str(library)],
            input=json.dumps(answers),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return reading


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    standard(made.consumer)
    made.happened("host", "stale", BEGIN + 100)
    return made


def ask(gateway, *targets, **more):
    answer = gateway.post("/json/query", query(*targets, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()


def values(frame):
    return {field["shown"]: field["values"] for field in frame["fields"]}


def test_every_answer_becomes_the_frames_that_were_meant(gateway, read):
    targets = ["rig::door", "rig::phase", "rig::temperature"]
    old = [{"target": target, "type": "timeserie"} for target in targets]
    search = gateway.post("/json/variable", {"payload": {"target": "rig::*"}}).json()
    made = read(
        {
            "frames": ask(gateway, *targets),
            "wide": ask(gateway, "rig::*"),
            "points": ask(gateway, *old),
            "table": ask(gateway, {"target": "rig::*", "type": "table"}),
            "joined": ask(gateway, {"target": "{host::load,rig::phase}", "type": "table"}),
            "marks": ask(gateway, "alarms rig::door", "events"),
            "variable": [search],
            "partly": ask(gateway, "rig::door", "host::nix", {"target": "host::nix", "type": "timeserie"}),
            "empty": ask(gateway, "rig::door", start="2001-01-01T00:00:00Z", end="2001-01-01T01:00:00Z"),
        }
    )
    times = [int(BEGIN * 1000) + 60_000 * i for i in range(60)]
    door = [i in (10, 11, 12, 30) for i in range(60)]
    phase = ["rest", 'a "load"', "größe"] * 20
    temperature = [20.0 + i for i in range(60)]

    for frame, target, expected in zip(made["frames"], targets, (door, phase, temperature), strict=True):
        assert values(frame) == {"time": times, target: expected}
    assert [frame["refId"] for frame in made["frames"]] == ["A", "B", "C"]
    assert [frame["fields"][1]["type"] for frame in made["frames"]] == ["boolean", "string", "number"]
    assert all(
        frame["fields"][0]["type"] == "time"
        for frames in made.values()
        for frame in frames[:1]
        if frames is not made["variable"]
    )

    (wide,) = made["wide"]
    assert values(wide) == {"time": times, "rig::door": door, "rig::phase": phase, "rig::temperature": temperature}

    for frame, target, expected in zip(made["points"], targets, (door, phase, temperature), strict=True):
        assert frame["name"] == target
        assert [field["values"] for field in frame["fields"]] == [times, expected]
        assert frame["fields"][1]["shown"] == target

    (table,) = made["table"]
    assert [field["type"] for field in table["fields"]] == ["time", "boolean", "string", "number"]
    assert [field["values"] for field in table["fields"]] == [times, door, phase, temperature]
    (joined,) = made["joined"]
    assert joined["length"] == 360
    assert joined["fields"][2]["values"][:7] == ["rest", *[None] * 5, 'a "load"']

    alarms, events = made["marks"]
    assert [field["type"] for field in alarms["fields"]] == ["time", "time", "string", "string", "other"]
    assert alarms["fields"][1]["values"] == [times[13], times[31]]
    assert events["fields"][4]["values"] == [["event", "stale", "host"]]

    assert values(made["variable"][0])["__value"] == targets
    good, *bad = made["partly"]
    assert good["length"] == 60
    for frame in bad:
        assert frame["length"] == 0
        assert "host::nix" in frame["meta"]["notices"][0]["text"]
    (empty,) = made["empty"]
    assert empty["length"] == 0


def test_units_and_gaps_arrive(gateway, read):
    gateway.consumer.add("pure", "t", BEGIN + np.arange(3.0), {"n": np.arange(3.0)}, n=("1", "Number"))
    (frame,) = read({"pure": ask(gateway, "pure::n")})["pure"]
    assert "unit" not in frame["fields"][1]["config"]
    gateway.consumer.add(
        "odd", "t", BEGIN + np.arange(3.0) / 8, {"x": np.array([1.0, np.nan, 3.0])}, x=("µm/m", "Strain")
    )
    made = read({"new": ask(gateway, "odd::x"), "old": ask(gateway, {"target": "odd::x", "type": "timeserie"})})
    for (frame,) in made.values():
        assert frame["fields"][1]["config"]["unit"] == "suffix:µm/m"
        assert frame["fields"][1]["values"] == [1, None, 3]
        assert frame["fields"][0]["values"] == [int(BEGIN * 1000) + ms for ms in (0, 125, 250)]


def test_field_whose_units_changed_is_a_series_of_each(gateway, read):
    tank(gateway.consumer)
    made = read(
        {
            "new": ask(gateway, "tank::level"),
            "old": ask(gateway, {"target": "tank::level", "type": "timeserie"}),
            "table": ask(gateway, {"target": "tank::level", "type": "table"}),
        }
    )
    times = [int(BEGIN * 1000) + ms for ms in (0, 1000, 2000, 3000)]
    for key in ("new", "old"):
        before, after = made[key]
        assert [frame["fields"][1]["shown"] for frame in made[key]] == ["tank::level [mm]", "tank::level [m]"]
        assert [field["values"] for field in before["fields"]] == [times[:2], [1000, 1001]]
        assert [field["values"] for field in after["fields"]] == [times[2:], [1.0, 1.1]]
        assert [frame["fields"][1]["config"]["unit"] for frame in made[key]] == ["lengthmm", "lengthm"]
    assert [frame["fields"][1]["labels"].get("units") for frame in made["new"]] == ["mm", "m"]
    (table,) = made["table"]
    assert [field["values"] for field in table["fields"]] == [times, [1000, 1001, None, None], [None, None, 1.0, 1.1]]
    assert [field["config"].get("unit") for field in table["fields"]] == [None, "lengthmm", "lengthm"]
    assert {"text": "mm"} in gateway.post("/json/tag-values", {"key": "units"}).json()
    found = ask(gateway, "tank::*", adhocFilters=[{"key": "units", "operator": "=", "value": "mm"}])
    assert [frame["schema"]["name"] for frame in found] == ["tank::level [mm]", "tank::level [m]"]


def test_frames_are_read_faster_than_points(gateway, read):
    n = 100_000
    gateway.consumer.add("big", "t", BEGIN + np.arange(n) / 30, {"x": np.sin(np.arange(n))})
    new = ask(gateway, "big::x", maxDataPoints=n, intervalMs=30)
    old = ask(gateway, {"target": "big::x", "type": "timeserie"}, maxDataPoints=n, intervalMs=30)
    made = read({"new": new, "old": old})
    (frame,), (points,) = made["new"], made["old"]
    assert frame["length"] == points["length"] == n
    assert [field["values"] for field in frame["fields"]] == [field["values"] for field in points["fields"]]
    assert frame["took"] < points["took"]


def test_infinity_rows_of_names_are_read(gateway, read):
    fields = gateway.get("/v1/fields").json()
    marks = gateway.get("/v1/annotations", params={"from": FROM, "to": TO}).json()
    made = read({"fields": [fields], "marks": [marks]})
    assert values(made["fields"][0])["target"] == [row["target"] for row in fields]
    assert made["marks"][0]["length"] == 1
