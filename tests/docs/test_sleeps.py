"""Tests wait for conditions, not for a fixed time."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ENDLESS_S = 60.0
"""What sleeps for so long is to be ended by the test."""


def fixed_sleeps(node: ast.AST) -> Iterator[int]:
    """Yield the lines of sleeps that no loop repeats until something holds."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.While | ast.For | ast.AsyncFor):
            continue
        if isinstance(child, ast.Call) and ast.unparse(child.func) in ("time.sleep", "asyncio.sleep"):
            seconds = child.args[0].value if isinstance(child.args[0], ast.Constant) else 1.0
            if 0 < seconds < ENDLESS_S:
                yield child.lineno
        yield from fixed_sleeps(child)


@pytest.mark.parametrize("folder", ["contract", "docs", "hub", "kafka", "nodes", "sisock"])
def test_sleep_for_a_fixed_time_has_a_comment_with_its_reason(folder):
    for path in sorted((TESTS / folder).rglob("*.py")):
        lines = path.read_text().splitlines()
        for number in fixed_sleeps(ast.parse("\n".join(lines))):
            line = lines[number - 1]
            assert "  # " in line, f"{path}:{number}: wait for a condition, or write why time itself is the matter"


def test_fixed_sleep_is_found_and_one_in_a_loop_is_not():
    text = "def f():\n    while not done():\n        time.sleep(0.1)\n    time.sleep(0.1)\n    time.sleep(600)\n"
    assert list(fixed_sleeps(ast.parse(text))) == [4]
