"""The import contracts of `make lint`: each is seen to go red."""

import re
import shutil

import pytest

from tests.imports import CHECKOUT, check, contracts, listing

# An import that breaks each contract, and the file that it is added to.
BREAKS = {
    "sisock imports from the top of the listing down": ("sisock/fields.py", "import sisock.source"),
    "the core knows neither hub nor nodes": ("sisock/cli/app.py", "import sisock_hub.hub"),
    "hub and nodes do not know each other": ("nodes/sisock_nodes/udp/source.py", "import sisock_hub.registry"),
    "node types do not know each other": ("nodes/sisock_nodes/udp/receiver.py", "import sisock_nodes.host.source"),
    "records know no node type": ("nodes/sisock_nodes/records/keys.py", "import sisock_nodes.udp.settings"),
    "a consumer knows neither nodes nor histories": ("sisock/consumer/live.py", "import sisock.history.store"),
    "data know nothing of the network": ("nodes/sisock_nodes/table/source.py", "import sisock.wamp.session"),
    "PromQL knows nothing of HTTP": ("hub/sisock_hub/gateway/promql/parsing.py", "import fastapi"),
    "no files import each other in a circle": ("sisock/wamp/wire.py", "import sisock.wamp.chunks"),
}


def names():
    modules = listing((CHECKOUT / "ARCHITECTURE.md").read_text())
    return [name for name, _ in contracts(modules, CHECKOUT / "nodes" / "sisock_nodes")]


@pytest.fixture
def checkout(tmp_path):
    shutil.copy(CHECKOUT / "ARCHITECTURE.md", tmp_path)
    for package in ("sisock", "hub/sisock_hub", "nodes/sisock_nodes"):
        shutil.copytree(
            CHECKOUT / package,
            tmp_path / package,
            ignore=lambda _, names: {n for n in names if "__pycache__" in n or n == "page"},
        )
    return tmp_path


def broken(checkout):
    outcome = check(checkout)
    assert outcome.stdout.count("KEPT") + outcome.stdout.count("BROKEN") == len(names()), (
        outcome.stdout + outcome.stderr
    )
    assert (outcome.returncode == 0) is ("BROKEN" not in outcome.stdout)
    return set(re.findall(r"^(.+) BROKEN$", outcome.stdout, re.MULTILINE))


def test_every_contract_is_kept(checkout):
    assert broken(checkout) == set()


@pytest.mark.parametrize("name", names())
def test_contract_goes_red(checkout, name):
    path, line = BREAKS[name]
    file = checkout / path
    file.write_text(f"{file.read_text()}\n{line}\n")
    assert name in broken(checkout)


def test_new_node_type_is_held_to_the_contracts(checkout):
    folder = checkout / "nodes/sisock_nodes/fresh"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""New."""\n')
    (folder / "source.py").write_text("import autobahn\nimport sisock_nodes.udp.source\n")
    assert broken(checkout) == {"data know nothing of the network", "node types do not know each other"}


def test_file_that_the_listing_lacks_is_named(checkout):
    (checkout / "sisock/extra.py").touch()
    with pytest.raises(SystemExit, match="does not list what sisock/ has, once each: extra"):
        check(checkout)


def test_no_module_takes_the_name_of_something_public():
    """Python sets a module that is imported as an attribute of its package, and so hides a function of that name."""
    import sisock

    assert not set(sisock.__all__) & set(listing((CHECKOUT / "ARCHITECTURE.md").read_text()))
