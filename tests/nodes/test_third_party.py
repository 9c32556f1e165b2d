"""A node type and a command from somebody else's package, found without touching ours."""

import json
import os
import subprocess
import sys

MODULE = """
from typing import Literal

from sisock import Field, Polled, Timeline
from sisock.site import NodeSettings


class DiceSettings(NodeSettings):
    '''A die.'''

    type: Literal["dice"]
    sides: int = 6

    def make_sources(self, here):
        return [Polled(Timeline("throws", [Field("dice")], interval_s=0.1), lambda: {"dice": self.sides}, clock)]


def throw():
    '''Throw it once.'''
    print("four")
"""
ENTRY_POINTS = """
[sisock.nodes]
dice = their_dice:DiceSettings

[sisock.commands]
throw = their_dice:throw
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
    assert {"type": "dice", "description": "A die.", "package": "their-dice"} in types
    assert json.loads(sisock("check", "--json").stdout)["nodes"] == {"mine": "dice"}
    assert sisock("throw").stdout == "four\n"
    (tmp_path / "site.yaml").write_text("nodes: {mine: {type: dice, sides: many}}\n")
    assert "site.yaml:1: nodes.mine.sides: input should be a valid integer" in sisock("check").stderr
