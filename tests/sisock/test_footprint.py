"""What `pip install sisock` brings, and what `import sisock` costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def locked_needs(name, *extras):
    """Return the distributions that `name` needs, itself included, as the lock file says for this machine."""
    import tomllib

    from packaging.markers import Marker

    packages = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        packages.setdefault(package["name"], package)
    seen, todo = set(), [(name, extras)]
    while todo:
        package, extras = todo.pop()
        if (package, extras) in seen:
            continue
        seen.add((package, extras))
        entry = packages[package]
        needs = list(entry.get("dependencies", ()))
        for extra in extras:
            needs += entry.get("optional-dependencies", {}).get(extra, ())
        for need in needs:
            if "marker" not in need or Marker(need["marker"]).evaluate():
                todo.append((need["name"], tuple(need.get("extra", ()))))
    return {package for package, _ in seen}


def test_core_alone_stays_below_30_distributions():
    needs = locked_needs("sisock")
    assert {"autobahn", "twisted", "numpy", "pyopenssl", "service-identity"} <= needs
    assert "crossbar" not in needs
    assert len(needs) < 30


@pytest.mark.parametrize("project", ["pyproject.toml", "hub/pyproject.toml", "nodes/pyproject.toml"])
def test_crossbar_comes_with_no_distribution_and_no_extra(project):
    import tomllib

    about = tomllib.loads((ROOT / project).read_text())["project"]
    needs = locked_needs(about["name"], *about["optional-dependencies"])
    assert "numpy" in needs
    assert not needs & {"crossbar", "bjdata"}


def test_import_is_cheap():
    script = "import time; t = time.perf_counter(); import sisock; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    assert min(float(run.stdout) for run in runs) < 0.3


@pytest.mark.parametrize("module", ["sisock", "sisock.history", "sisock.source", "sisock.site", "sisock.wamp.wire"])
def test_modules_that_handle_data_load_no_network_library(module):
    script = f"import sys, {module}; print([m for m in sys.modules if m.split('.')[0] in ('autobahn', 'crossbar', 'twisted')])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_no_distribution_needs_python_below_or_above_what_is_promised():
    for project in ("pyproject.toml", "hub/pyproject.toml", "nodes/pyproject.toml"):
        assert re.search(r'^requires-python = ">=3.11,<3.15"$', (ROOT / project).read_text(), re.M)


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        (
            "sisock, sisock.consumer, sisock.node, sisock.history, sisock.runner",
            "pyarrow pandas xarray h5py typer rich",
        ),
        ("sisock.cli.app, sisock_hub.commands, sisock_hub.environment", "pyarrow pandas xarray h5py pytest fastapi"),
    ],
)
def test_what_needs_no_extra_is_imported_without_one(modules, missing):
    blocked = f"import sys; sys.modules.update(dict.fromkeys({missing.split()!r}))"
    run = subprocess.run(
        [sys.executable, "-c", f"{blocked}; import {modules}"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
