"""Errors have names of their own, and say what they are."""

import importlib
import pkgutil
import re

import pytest

import sisock
import sisock_hub
import sisock_nodes
from sisock.errors import NoSuchNode, SisockError, leaves

# Errors that a module has for itself are known once it is imported; the guard replaces classes of Crossbar.
for package in (sisock, sisock_hub, sisock_nodes):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith((".__main__", ".guard")):
            importlib.import_module(module.name)


def test_names_are_unique_and_fit_a_uri():
    kinds = list(leaves())
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert all(re.fullmatch(r"[a-z_]+", kind.name) for kind in kinds)


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.name)
def test_message_is_shown_as_it_was_written(kind):
    error = kind(["one"]) if kind.__name__ == "SiteError" else kind("one")
    assert str(error) == "one"
    assert isinstance(error, SisockError)
    assert isinstance(kind.name, str)


def test_errors_are_also_their_built_in_kin():
    with pytest.raises(KeyError):
        raise NoSuchNode("no node 'x'", node="x")
