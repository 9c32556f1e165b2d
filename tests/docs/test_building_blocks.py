"""The examples of the building blocks run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/building-blocks.md").read_text()
EXAMPLES = re.findall(r"^## (.*?)$.*?```python\n(.*?)```", PAGE, re.S | re.M)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example_runs_as_it_stands(name, example):
    exec(example, {})


def test_every_block_has_an_example():
    assert [name for name, _ in EXAMPLES] == re.findall(r"^## (.*)$", PAGE, re.M)
