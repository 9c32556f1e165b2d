"""The package that docs/node-type.md builds: installed, tested and held to the contract, as the page stands."""

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/node-type.md").read_text()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package in a folder, installed as `pip install -e` does."""
    folder = tmp_path_factory.mktemp("modbus")
    for name, content in re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups)
    )
    return folder


def run(package, *command):
    secrets = {"SISOCK_SERVER_SECRET": "a", "SISOCK_CONSUMER_SECRET": "b"}
    environment = {**os.environ, **secrets, "PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_listing_has_the_files_of_the_page(package):
    listed = set(
        re.findall(
            r"^  ?(\w+\.py) |^(?:tests/)?(\w+\.\w+)",
            re.search(r"```\n(sisock_modbus/.*?)```", PAGE, re.DOTALL)[1],
            re.MULTILINE,
        )
    )
    names = {a or b for a, b in listed}
    folders = [package / "sisock_modbus", package / "tests", package]
    files = {path.name for folder in folders for path in folder.glob("[!.]*.*") if path.is_file()}
    assert names - {"README.md"} == {name for name in files if not name.endswith(".pyc")}


def test_type_is_found_and_its_site_file_is_accepted(package):
    types = json.loads(run(package, "sisock", "node", "types", "--json"))
    assert {
        "type": "modbus",
        "description": "Holding registers of a Modbus/TCP device.",
        "package": "sisock-modbus",
    } in types
    assert json.loads(run(package, "sisock", "check", "site.yaml", "--json"))["nodes"] == {"boiler": "modbus"}


def test_its_tests_pass(package):
    assert "5 passed" in run(package, "pytest", "-q", "-p", "no:randomly", "tests")


def test_it_is_held_to_the_contract(package, tmp_path, sisock_router):
    spec = spec_from_file_location("their_tests", package / "tests/test_modbus.py")
    sys.path.insert(0, str(package))
    try:
        theirs = module_from_spec(spec)
        spec.loader.exec_module(theirs)
    finally:
        sys.path.remove(str(package))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), theirs.Device) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = tmp_path / "site.yaml"
        site.write_text((package / "site.yaml").read_text().replace("5020", str(server.server_address[1])))
        told = run(package, "pytest", "-q", "--pyargs", "sisock.testing.contract", "--sisock-site", str(site))
        server.shutdown()
    assert "6 passed" in told
