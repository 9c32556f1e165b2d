"""A node type and a command from somebody else's package, found without touching ours."""

import json
import os
import subprocess
import sys

import pytest

from sisock.access import Access
from sisock.errors import SiteError
from sisock.node import open_node
from sisock.nodetype import load_node_type, node_types
from sisock.site import check_site, load_site

MODULE = """
from typing import Literal

from sisock import Field, Polled, Timeline
from sisock.nodetype import NodeSettings, NodeType


class DiceSettings(NodeSettings):
    '''A die.'''

    type: Literal["dice"]
    sides: int = 6


def make_sources(settings, context):
    timeline = Timeline("throws", [Field("dice")], interval_s=0.1)
    return [Polled(timeline, lambda: {"dice": settings.sides}, context.clock)]


node_type = NodeType(DiceSettings, make_sources)


def throw():
    '''Throw it once.'''
    print("four")
"""
ENTRY_POINTS = """
[sisock.nodes]
dice = their_dice:node_type
broken = their_dice:nothing

[sisock.commands]
throw = their_dice:throw
"""


# As a package was written before `NodeType`.
OLD_MODULE = """
from typing import Literal

from sisock import Field, Polled, Timeline
from sisock.errors import BadRequest
from sisock.site import NodeSettings, Surroundings


class DiceSettings(NodeSettings):
    '''A die.'''

    type: Literal["old-dice"]
    port: int

    def claims(self):
        return [*super().claims(), f"die {self.port}"]

    def check(self):
        super().check()
        if self.port == 13:
            raise BadRequest("no die has that port")

    def make_sources(self, here: Surroundings):
        timeline = Timeline(f"throws of {here.node}", [Field("dice")], interval_s=0.1)
        return [Polled(timeline, lambda: {"dice": 6}, here.clock)]
"""


def test_package_of_a_third_party_adds_a_type_and_a_command(tmp_path):
    packages = tmp_path / "packages"
    info = packages / "their_dice-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-dice\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (packages / "their_dice.py").write_text(MODULE)
    (tmp_path / "site.yaml").write_text("nodes: {mine: {type: dice, sides: 20}}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "SISOCK_SERVER_SECRET": "a",
        "SISOCK_CONSUMER_SECRET": "b",
    }

    def sisock(*args):
        return subprocess.run(
            [sys.executable, "-m", "sisock", *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    types = json.loads(sisock("node", "types", "--json").stdout)
    assert {
        "type": "broken",
        "description": "cannot be loaded: their_dice:nothing names nothing",
        "package": "their-dice",
    } in types
    assert {"type": "dice", "description": "A die.", "package": "their-dice"} in types
    assert json.loads(sisock("check", "--json").stdout)["nodes"] == {"mine": "dice"}
    assert sisock("throw").stdout == "four\n"
    (tmp_path / "site.yaml").write_text("nodes: {mine: {type: dice, sides: many}}\n")
    assert "site.yaml:1: nodes.mine.sides: input should be a valid integer" in sisock("check").stderr


def test_settings_class_that_makes_its_sources_is_still_taken(tmp_path, monkeypatch):
    info = tmp_path / "old_dice-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: old-dice\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sisock.nodes]\nold-dice = old_dice:DiceSettings\n")
    (tmp_path / "old_dice.py").write_text(OLD_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    access = Access("ws://localhost:1", "realm", "base", "user", "secret")
    with pytest.warns(DeprecationWarning) as warned:  # noqa: PT030, PT031 - which they are is asserted
        settings = load_node_type(node_types()["old-dice"]).settings(type="old-dice", port=7)
        node = open_node("mine", settings, access)
    told = {str(each.message) for each in warned}
    assert told == {
        "sisock.site.NodeSettings has moved: import NodeSettings from sisock.nodetype",
        "sisock.site.Surroundings has moved: import NodeContext from sisock.nodetype",
        "old_dice:DiceSettings has make_sources, which is deprecated: make it a function, and let the entry point name "
        "a sisock.nodetype.NodeType of the settings class and that function",
        "NodeContext.node is deprecated; read NodeContext.name",
    }
    assert [timeline.name for timeline in node.history.timelines] == ["throws of mine"]
    assert settings.exclusive_resources() == ["die 7"]
    (tmp_path / "site.yaml").write_text("nodes: {a: {type: old-dice, port: 1}, b: {type: old-dice, port: 1}}\n")
    with (
        pytest.warns(DeprecationWarning, match="make_sources"),
        pytest.raises(SiteError, match="die 1 is taken by node a"),
    ):
        load_site(tmp_path)
    (tmp_path / "site.yaml").write_text("nodes: {a: {type: old-dice, port: 13}}\n")
    with pytest.warns(DeprecationWarning, match="make_sources"), pytest.raises(SiteError, match="no die has that port"):
        check_site(tmp_path)
