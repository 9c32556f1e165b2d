"""The import contracts, made from the listing in ARCHITECTURE.md; `make lint` holds them.

``python -m tests.imports [FOLDER]`` checks the packages of a checkout.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
# No file above this one in the listing, and none of those of a node type that decode or measure, loads the network.
FIRST_OF_NETWORK = "wamp"
NETWORK = ("autobahn", "crossbar")
WITHOUT_NETWORK = (
    "sisock_hub.gateway.promql",
    "sisock_hub.registry",
    "sisock_nodes.records",
    "sisock_nodes.*.protocol",
    "sisock_nodes.*.settings",
    "sisock_nodes.*.source",
)


def listing(architecture: str) -> list[str]:
    """Return the modules of `sisock`, each of which may import only those before it."""
    block = re.search(r"```\nsisock/\n(.*?)\n```", architecture, re.DOTALL)
    if block is None:
        raise SystemExit("ARCHITECTURE.md has no listing of sisock/")
    modules = []
    for line in block[1].splitlines():
        names, _, _ = line.strip().partition("  ")
        modules += [name.rstrip("/") for name in names.split()]
    return modules


def unlisted(modules: Sequence[str], package: Path) -> set[str]:
    """Return the modules of a package that a listing lacks, or has twice or too much."""
    found = [path.stem for path in package.iterdir() if path.suffix == ".py" and not path.stem.startswith("__")]
    found += [path.parent.name for path in package.glob("*/__init__.py")]
    twice = {name for name in modules if modules.count(name) > 1}
    return set(found) ^ set(modules) | twice


def contracts(modules: Sequence[str], nodes: Path) -> Iterator[tuple[str, Mapping[str, str | Sequence[str]]]]:
    """Yield the name and the settings of each contract."""
    types = sorted(path.parent.name for path in nodes.glob("*/__init__.py") if path.parent.name != "records")
    data = [f"sisock.{name}" for name in modules[: modules.index(FIRST_OF_NETWORK)]]
    yield (
        "sisock imports from the top of the listing down",
        {
            "type": "layers",
            "containers": ["sisock"],
            "layers": list(reversed(modules)),
        },
    )
    yield (
        "the core knows neither hub nor nodes",
        {
            "type": "forbidden",
            "source_modules": ["sisock"],
            "forbidden_modules": ["sisock_hub", "sisock_nodes"],
        },
    )
    yield "hub and nodes do not know each other", {"type": "independence", "modules": ["sisock_hub", "sisock_nodes"]}
    yield (
        "node types do not know each other",
        {
            "type": "independence",
            "modules": [f"sisock_nodes.{name}" for name in types],
        },
    )
    yield (
        "records know no node type",
        {
            "type": "layers",
            "layers": [" : ".join(f"sisock_nodes.{name}" for name in types), "sisock_nodes.records"],
        },
    )
    yield (
        "a consumer knows neither nodes nor histories",
        {
            "type": "forbidden",
            "source_modules": ["sisock.consumer"],
            "forbidden_modules": ["sisock.history", "sisock.base", "sisock.node"],
        },
    )
    yield (
        "data know nothing of the network",
        {
            "type": "forbidden",
            "source_modules": [*data, *WITHOUT_NETWORK],
            "forbidden_modules": NETWORK,
        },
    )
    yield (
        "PromQL knows nothing of HTTP",
        {
            "type": "forbidden",
            "source_modules": ["sisock_hub.gateway.promql"],
            "forbidden_modules": ["fastapi", "starlette", "uvicorn", "httpx"],
        },
    )
    yield (
        "no files import each other in a circle",
        {
            "type": "acyclic_siblings",
            "ancestors": ["sisock", "sisock_hub", "sisock_nodes"],
        },
    )


def configuration(checkout: Path) -> ConfigParser:
    """Return the configuration of import-linter for a checkout.

    Raises
    ------
    SystemExit
        If the listing in ARCHITECTURE.md is not that of the package.
    """
    modules = listing((checkout / "ARCHITECTURE.md").read_text())
    if wrong := unlisted(modules, checkout / "sisock"):
        raise SystemExit(f"ARCHITECTURE.md does not list what sisock/ has, once each: {', '.join(sorted(wrong))}")
    config = ConfigParser()
    config["importlinter"] = {
        "root_packages": "\nsisock\nsisock_hub\nsisock_nodes",
        "include_external_packages": "True",
        "exclude_type_checking_imports": "True",
    }
    for name, about in contracts(modules, checkout / "nodes" / "sisock_nodes"):
        settings = {k: v if isinstance(v, str) else "\n" + "\n".join(v) for k, v in about.items()}
        config[f"importlinter:contract:{name}"] = {"name": name, **settings}
    return config


def check(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages of a checkout, and return what it printed."""
    code = f"import sys; sys.path[:0] = {[str(checkout / part) for part in ('', 'hub', 'nodes')]}\n"
    code += "from importlinter.cli import lint_imports_command; lint_imports_command()"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "contracts.ini")
        with file.open("w") as out:
            configuration(checkout).write(out)
        command = [sys.executable, "-c", code, "--config", str(file), "--no-cache", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    outcome = check(Path(sys.argv[1]) if sys.argv[1:] else CHECKOUT)
    sys.stdout.write(outcome.stdout)
    sys.stderr.write(outcome.stderr)
    sys.exit(outcome.returncode)
