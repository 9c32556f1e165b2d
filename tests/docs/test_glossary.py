"""The glossary names what the project uses, and the reference names every public type."""

import ast
import inspect
import re
from importlib import import_module

import pytest

from tests.docs.test_english import CODE, FENCE, ROOT

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
TERMS = re.findall(r"^- \*\*(.+?)\*\*", GLOSSARY, re.M)
PUBLIC = (
    "sisock",
    "sisock.base",
    "sisock.consumer",
    "sisock.history",
    "sisock.recording",
    "sisock.testing",
    "sisock.nodetype",
)


def docstrings():
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Expr)
                    and isinstance(node.value, ast.Constant)
                    and isinstance(node.value.value, str)
                ):
                    yield node.value.value


def prose():
    pages = [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md") if path.name != "glossary.md")]
    return [FENCE.sub("", path.read_text()) for path in pages]


@pytest.fixture(scope="module")
def words():
    return re.sub(r"\s+", " ", " ".join([*prose(), *docstrings()])).lower()


def test_every_term_is_used(words):
    unused = [
        term for term in TERMS if not re.search(rf"\b{re.escape(term.lower()).removesuffix('y')}(y|s|es|ies)?\b", words)
    ]
    assert TERMS
    assert not unused


def test_terms_are_defined_once():
    assert len(TERMS) == len(set(TERMS))


def public_types():
    for name in PUBLIC:
        module = import_module(name)
        listed = getattr(module, "__all__", None) or [
            n for n, each in vars(module).items() if getattr(each, "__module__", "") == name
        ]
        for each in listed:
            if not each.startswith("_") and inspect.isclass(getattr(module, each)):
                yield each


@pytest.mark.parametrize("name", sorted(set(public_types())))
def test_every_public_type_is_in_the_reference(name):
    reference = (ROOT / "docs" / "python.md").read_text().partition("## Reference")[2]
    assert name in re.findall(r"`(\w+)`", reference)
