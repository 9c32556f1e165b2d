"""Tables of nodes over HTTP, as JSON, CSV and Arrow; without Crossbar."""

import pyarrow
import pytest

from tests.hub.gateway.work_site import Stage, gateway_of

AT = "/api/v1/nodes/stage/tables"


@pytest.fixture
def client(sisock_stepped_site, tmp_path):
    stage = Stage(sisock_stepped_site)
    shots = stage.node.context.table("shots", {"time": "time", "energy": "number", "target": "text", "about": "json"})
    shots.append(
        {
            "time": [1_700_000_000.0 + i for i in range(10)],
            "energy": [float("nan") if i == 9 else i / 2 for i in range(10)],
            "target": [f"gold {i}" for i in range(10)],
            "about": [{"i": i} for i in range(10)],
        }
    )
    with gateway_of(sisock_stepped_site, tmp_path) as client:
        yield client


def test_tables_and_their_rows_are_served_as_json_csv_and_arrow(client):
    listed = {each["name"]: each for each in client.get(AT).json()}
    assert (listed["shots"]["next"], listed["shots"]["columns"]["about"]) == (10, "json")
    which = {"condition": ["energy>=1", "target like *[2-6]"], "column": ["energy", "about"], "limit": 3}
    page = client.get(f"{AT}/shots", params=which).json()
    assert page == {
        "name": "shots",
        "types": {"energy": "number", "about": "json"},
        "numbers": [2, 3, 4],
        "columns": {"energy": [1.0, 1.5, 2.0], "about": [{"i": 2}, {"i": 3}, {"i": 4}]},
        "cursor": 5,
        "oldest": 0,
        "more": True,
    }
    rest = client.get(f"{AT}/shots", params={**which, "after": page["cursor"]})
    assert (rest.json()["numbers"], rest.json()["more"]) == ([5, 6], False)
    newest = client.get(f"{AT}/shots", params={"order": "descending", "limit": 2, "column": "energy"}).json()
    assert (newest["numbers"], newest["columns"]["energy"]) == ([9, 8], [None, 4.0])
    csv = client.get(f"{AT}/shots", params={**which, "limit": 1}, headers={"Accept": "text/csv"})
    assert csv.text.splitlines() == ['"row","energy","about"', '2,1,"{""i"": 2}"']
    assert csv.headers["Sisock-Cursor"] == "3"
    arrow = client.get(f"{AT}/shots", params={"format": "arrow", "limit": 2}).content
    rows = pyarrow.ipc.open_stream(arrow).read_all()
    assert rows.schema.field("time").type == pyarrow.timestamp("us", "UTC")
    assert (rows["row"].to_pylist(), rows["energy"].to_pylist()) == ([0, 1], [0.0, 0.5])


@pytest.mark.parametrize(
    ("path", "which", "status", "words"),
    [
        ("shot", {}, 404, "did you mean shots"),
        ("shots", {"condition": "enrgy>1"}, 400, "did you mean energy"),
        ("shots", {"column": "enrgy"}, 400, "did you mean energy"),
        ("shots", {"condition": "energy"}, 400, "not a valid condition"),
        ("shots", {"limit": 0}, 422, "limit"),
        ("shots", {"format": "xml"}, 422, "format"),
    ],
)
def test_requests_that_cannot_be_answered_name_the_remedy(client, path, which, status, words):
    answer = client.get(f"{AT}/{path}", params=which)
    assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text
