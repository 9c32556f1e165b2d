"""Which nodes and fields are found by words."""

from sisock.consumer.info import FieldInfo
from sisock_hub.gateway.search import Hit, find


def info(name, units=None, description=None):
    return FieldInfo(name, "number", units, description, "tl", None)


NODES = {"host": "This machine", "rig": "A test stand for beams", "strain": None}
FIELDS = {
    "host": {each.name: each for each in (info("cpu.total", "%", "Time that it was busy"), info("memory", "B"))},
    "rig": {each.name: each for each in (info("strain.beam", "µm/m"), info("beam"), info("load", "N", "on the beam"))},
}


def found(words, limit=100):
    hits, total = find(words, NODES, FIELDS, limit)
    return [hit.node if hit.field is None else f"{hit.node}::{hit.field.name}" for hit in hits], total


def test_names_come_before_descriptions_and_whole_names_first():
    assert found("beam") == (["rig::beam", "rig::strain.beam", "rig", "rig::load"], 4)
    assert found("STRAIN")[0] == ["strain", "rig::strain.beam"]


def test_words_may_be_of_a_node_and_of_its_field():
    assert found("host cpu") == (["host::cpu.total"], 1)
    assert found("machine b") == (["host::cpu.total", "host::memory"], 2)
    assert found("rig nothing") == ([], 0)


def test_node_is_found_without_all_of_its_fields():
    assert found("host") == (["host"], 1)


def test_one_letter_is_answered_with_as_many_hits_as_are_asked_for():
    fields = {f"n{i:03}": {f"field{k}": info(f"field{k}") for k in range(50)} for i in range(200)}
    hits, total = find("f", dict.fromkeys(fields), fields, 100)
    assert (len(hits), total) == (100, 10_000)
    assert hits[0] == Hit("n000", fields["n000"]["field0"])
