"""Named parts that are created at run time and survive a restart; the tests of UDP nodes have the rest."""

import json

import pytest
from pydantic import BaseModel, ConfigDict

from sisock.collection import Collection
from sisock.errors import BadRequest


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    every: float = 1.0


class Probe:
    def __init__(self, name, settings):
        self.name, self.settings, self.runs = name, settings, False

    def start(self):
        self.runs = True

    def stop(self):
        self.runs = False

    def described(self):
        return {"readings": 0}


def beside(name, settings, others):
    if any(other.every == settings.every for other in others.values()):
        raise ValueError(f"another probe is read every {settings.every} s")


def probes(file=None, configured=()):
    return Collection("probe", Settings, Probe, dict(configured), file, check=beside)


def test_parts_run_while_the_collection_does_unless_they_are_stopped(tmp_path):
    file = tmp_path / "kept" / "probes.json"
    first = probes(file, {"hall": Settings()})
    first.create("roof", Settings(every=5.0))
    assert not first.parts["roof"].runs
    first.start()
    first.create("cellar", Settings(every=7.0))
    first.switch("hall", on=False)
    assert {name: part.runs for name, part in first.parts.items()} == {"hall": False, "roof": True, "cellar": True}
    first.stop()
    assert not any(part.runs for part in first.parts.values())
    again = probes(file, {"hall": Settings()})
    again.start()
    assert {name: part.runs for name, part in again.parts.items()} == {"hall": False, "roof": True, "cellar": True}
    again.delete("roof")
    assert again.described("cellar") == {
        "id": "cellar",
        "every": 7.0,
        "from": "created",
        "running": True,
        "readings": 0,
    }
    assert "roof" not in json.loads(file.read_text())["created"]


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path):
    collection = probes(tmp_path / "probes.json", {"hall": Settings()})
    for act, text in [
        (lambda: collection.create("hall", Settings(every=2.0)), "there is a probe 'hall' already"),
        (lambda: collection.create("roof", Settings()), "another probe is read every 1.0 s"),
        (lambda: collection.delete("hall"), "is in the site file; remove it there, or stop it here"),
        (lambda: collection.switch("nothing", on=True), "there is no probe 'nothing'; there are: hall"),
    ]:
        with pytest.raises(BadRequest, match=text):
            act()
    assert list(collection.parts) == ["hall"]
    assert not (tmp_path / "probes.json").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 2, "created": {}, "stopped": []}', "of version 2, written by a later sisock"),
        ('{"created": {"x": {"each": 1}}, "stopped": []}', "Extra inputs are not permitted"),
    ],
)
def test_file_that_is_torn_or_of_a_later_version_ends_the_start_with_its_name(tmp_path, content, text):
    file = tmp_path / "probes.json"
    file.write_text(content)
    with pytest.raises(BadRequest, match=text) as told:
        probes(file)
    assert str(file) in str(told.value)
    assert file.read_text() == content


def test_part_that_the_site_file_rules_out_is_left_out_and_kept_in_the_file(tmp_path, caplog):
    file = tmp_path / "probes.json"
    file.write_text(json.dumps({"created": {"roof": {"every": 1.0}}, "stopped": []}))
    collection = probes(file, {"hall": Settings()})
    assert list(collection.parts) == ["hall"]
    assert "probe roof, which was created earlier, is left out" in caplog.text
    collection.create("cellar", Settings(every=9.0))
    assert json.loads(file.read_text())["created"]["roof"] == {"every": 1.0}
