"""The distributions, built from this tree and installed with plain pip into clean environments, as users have them.

`make install-check` runs this; it needs a package index. Nothing may print a warning.
"""

import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from sisock.testing.fixtures import free_ports

ROOT = Path(__file__).parents[2]
UV = ROOT / ".uv" / "bin" / "uv"
PROJECTS = {"sisock": ROOT, "sisock-hub": ROOT / "hub", "sisock-nodes": ROOT / "nodes"}
# What must be importable with each distribution and extra, besides what is of the distribution without any.
MODULES = {
    "sisock": "sisock, sisock.consumer, sisock.node, sisock.runner, sisock.history, sisock.site, sisock.supervisor",
    "sisock[cli]": "sisock.cli.app",
    "sisock[pandas]": "pandas",
    "sisock[xarray]": "xarray",
    "sisock[plot]": "matplotlib",
    "sisock[notebook]": "pandas, matplotlib, tqdm.auto",
    "sisock[parquet]": "pyarrow.parquet",
    "sisock[hdf5]": "h5py",
    "sisock[notify]": "apprise",
    "sisock[testing]": "pytest, sisock.testing, sisock.testing.fixtures",
    "sisock-hub": "sisock_hub.commands, sisock_hub.hub, sisock_hub.router, sisock_hub.environment",
    "sisock-hub[gateway]": "sisock_hub.gateway.server",
    "sisock-nodes": "sisock_nodes.host.source, sisock_nodes.udp.source, sisock_nodes.ocs_feed.source",
    "sisock-nodes[kafka]": "sisock_nodes.kafka.source, sisock_nodes.kafka.sink_settings",
    "sisock-nodes[kafka-schemas]": "sisock_nodes.kafka.source, fastavro, google.protobuf",
    "sisock-nodes[recorder]": "sisock_nodes.recorder.source",
    "sisock-nodes[file]": "sisock_nodes.file.source, h5py",
    "sisock-nodes[recording]": "sisock_nodes.file.source, h5py",
    "sisock-nodes[table]": "sisock_nodes.table.source",
}
WARNS = re.compile(r"warn|deprecat|traceback|compiled using NumPy", re.I)


def extras(distribution):
    about = tomllib.loads((PROJECTS[distribution] / "pyproject.toml").read_text())["project"]
    return list(about["optional-dependencies"])


def silent(output):
    """Return what somebody ran has printed, if nothing of it is a warning."""
    warned = [line for line in output.splitlines() if WARNS.search(line)]
    assert warned == [], output
    return output


class Environment:
    """A virtual environment, made by venv, and what a user may type in it."""

    def __init__(self, folder):
        self.folder = folder
        # What is set for the tests is not set for users; what leads to the package index is.
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "WAMP_", "SISOCK_", "UV_", "VIRTUAL_ENV", "COVERAGE", "PYTEST"))
        }
        self.variables |= {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(folder / "runtime"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        subprocess.run([sys._base_executable, "-m", "venv", folder], check=True)  # noqa: SLF001 - of Python
        (folder / "runtime").mkdir(mode=0o700)

    def run(self, *command, cwd=None, status=0, timeout=1200):
        """Run a command, and return what it printed on both channels, which must be without a warning."""
        done = subprocess.run(
            [str(self.folder / "bin" / command[0]), *map(str, command[1:])],
            cwd=cwd or self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return silent(done.stdout)

    def install(self, *requirements, cwd=None):
        """Install with plain pip, and look whether what is installed fits together."""
        self.run("pip", "install", "--quiet", *requirements, cwd=cwd)
        assert self.run("pip", "check") == "No broken requirements found.\n"

    def start(self, *command, log, cwd):
        with log.open("w") as file:
            return subprocess.Popen(
                [str(self.folder / "bin" / command[0]), *command[1:]],
                cwd=cwd,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A folder with the wheels of this tree."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in PROJECTS.values():
        subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, project], check=True)
    assert len(list(folder.glob("*.whl"))) == 3
    return folder


def test_every_distribution_and_every_extra_is_installed_by_a_test():
    assert set(MODULES) == {
        *PROJECTS,
        *(f"{distribution}[{extra}]" for distribution in PROJECTS for extra in extras(distribution)),
    }


@pytest.mark.parametrize("requirement", MODULES)
def test_alone_it_is_installed_and_imported_without_a_warning(requirement, wheels, tmp_path):
    environment = Environment(tmp_path / "venv")
    environment.install("--find-links", wheels, requirement)
    modules = f"{MODULES[requirement.partition('[')[0]]}, {MODULES[requirement]}"
    assert environment.run("python", "-c", f"import {modules}") == ""
    assert environment.run("python", "-W", "error", "-c", "import sisock") == ""
    only_core = requirement.partition("[")[0] == "sisock" and requirement not in ("sisock[cli]", "sisock[testing]")
    if only_core:
        asked = environment.run("sisock", "--help", status=1)
        assert asked == "sisock: the command line needs more packages; run: pip install 'sisock[cli]'\n"
        return
    assert environment.run("sisock", "--help").startswith("Usage: sisock")
    environment.run("sisock", "init", "lab")
    up = environment.run("sisock", "up", "lab", status=2)
    assert up.count("\n") <= 2  # what is missing, and how to get it
    assert "run: sisock setup router" in up or "pip install" in up


@pytest.fixture(scope="module")
def everything(wheels, tmp_path_factory):
    """An environment with all distributions and all their extras."""
    environment = Environment(tmp_path_factory.mktemp("everything") / "venv")
    wanted = [f"{distribution}[{','.join(extras(distribution))}]" for distribution in PROJECTS]
    environment.install("--find-links", wheels, *wanted)
    return environment


def commands_of_the_readme():
    """Return what is typed in README's section about a site of one's own."""
    section = (ROOT / "README.md").read_text().partition("## A site of your own")[2]
    block = section.partition("```console\n")[2].partition("```")[0]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in block.splitlines()]


def test_readmes_way_of_installing_leads_to_a_site_with_a_console(tmp_path):
    typed = commands_of_the_readme()
    assert [" ".join(line[:3]) for line in typed[2:]] == [
        "sisock setup router",
        "sisock init lab",
        "sisock check lab",
        "sisock up lab",
    ]
    environment = Environment(tmp_path / "venv")
    pip, install, *requirements = typed[1]
    assert (pip, install) == ("pip", "install")
    environment.install(*requirements, cwd=ROOT)
    environment.run(*typed[3])
    port, raw, web = free_ports(3)
    use_ports(environment.folder / "lab", port, raw, web)
    assert f"gateway on 127.0.0.1:{web}" in environment.run(*typed[4])
    assert environment.run(*typed[5], status=2) == (
        "sisock: the router needs Crossbar, in an environment of its own; run: sisock setup router\n"
    )


def use_ports(folder, port, rawsocket, gateway):
    """Have a site that `sisock init` made use free ports: those that it names may be taken where tests run."""
    from ruamel.yaml import YAML

    yaml = YAML()
    site = yaml.load(folder / "site.yaml")
    site["router"] |= {"port": port, "rawsocket_port": rawsocket}
    site["gateway"] = {"port": gateway}
    yaml.dump(site, folder / "site.yaml")


def until(condition, what, timeout_s=300.0):
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)
    return answer


@contextmanager
def running(environment, *command, log, cwd):
    process = environment.start(*command, log=log, cwd=cwd)
    try:
        yield process
        process.terminate()
        process.wait(60.0)
    finally:
        process.kill()  # the parts of a site end with what runs it
        process.wait()


CELL = """
from sisock import BlockingConsumer

with BlockingConsumer("lab") as consumer:
    print(sorted(node.name for node in consumer.nodes()))
    data = consumer.data("dice", ["dice.value"], start=-60)
    print(data)
    print(data.to_pandas().describe())
    for batch in consumer.subscribe("dice", "throws"):
        print(batch.t, batch["dice.value"])
        break
"""


def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=10.0) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException):
        return None


def test_all_together_a_site_runs_without_a_warning(everything, tmp_path):
    """From `sisock init` to a notebook's cell, with the README's dice."""
    imported = ", ".join(MODULES.values())
    assert everything.run("python", "-c", f"import {imported}") == ""
    assert everything.run("sisock", "node", "types").count("sisock-nodes") >= 7
    folder = tmp_path / "lab"
    everything.run("sisock", "init", folder)
    port, raw, web = free_ports(3)
    use_ports(folder, port, raw, web)
    everything.run("sisock", "check", "lab", cwd=tmp_path)
    set_up_twice_at_once(everything, tmp_path)
    dice = (ROOT / "README.md").read_text().partition("## A node in a few lines")[2].partition("```python\n")[2]
    (folder / "dice.py").write_text(dice.partition("```")[0])
    (tmp_path / "cell.py").write_text(CELL)
    up, thrown = tmp_path / "up.log", tmp_path / "dice.log"
    with (
        running(everything, "sisock", "up", "lab", log=up, cwd=tmp_path) as site,
        running(everything, "python", "dice.py", log=thrown, cwd=folder) as node,
    ):
        until(
            lambda: "dice is added to the hub" in thrown.read_text() or node.poll() is not None,
            lambda: up.read_text() + thrown.read_text(),
        )
        page = until(lambda: fetched(f"http://127.0.0.1:{web}/"), up.read_text)
        assert b"<title>" in page
        for part in re.findall(rb'(?:src|href)="([^":]+\.(?:js|css|svg))"', page):
            assert fetched(f"http://127.0.0.1:{web}/{part.decode().lstrip('/')}"), part
        listed = json.loads(everything.run("sisock", "nodes", "--site", "lab", "--json", cwd=tmp_path))
        assert {each["name"] if isinstance(each, dict) else each for each in listed} >= {"dice"}
        everything.run("sisock", "fields", "dice", "--site", "lab", cwd=tmp_path)
        everything.run("sisock", "get", "dice", "dice.value", "--start", "-1m", "--site", "lab", cwd=tmp_path)
        everything.run("sisock", "watch", "dice", "dice.value", "--count", "2", "--site", "lab", cwd=tmp_path)
        for file in ("dice.parquet", "dice.csv", "dice.h5"):
            everything.run("sisock", "export", "dice", "-o", file, "--start", "-1m", "--site", "lab", cwd=tmp_path)
        cell = everything.run("python", "cell.py", cwd=tmp_path)
        assert "'dice'" in cell
        assert "dice.value" in cell
    assert (site.returncode, node.returncode) == (0, 0), up.read_text() + thrown.read_text()
    silent(up.read_text())
    silent(thrown.read_text())


def set_up_twice_at_once(environment, folder):
    """Set up the router by two processes that begin at the same time, and once more."""
    logs = [folder / f"setup-{number}.log" for number in range(2)]
    setups = [environment.start("sisock", "setup", "router", log=log, cwd=folder) for log in logs]
    try:
        assert [setup.wait(1200.0) for setup in setups] == [0, 0], "".join(log.read_text() for log in logs)
    finally:
        for setup in setups:
            setup.kill()
            setup.wait()
    said = sorted(silent(log.read_text()).splitlines()[-1] for log in logs)
    assert [line.endswith("the environment of the router is up to date; nothing was changed") for line in said] in (
        [False, True],
        [True, False],
    )
    environments = [path for path in (environment.folder / "share" / "sisock" / "router").iterdir() if path.is_dir()]
    assert len(environments) == 1
    assert environment.run("sisock", "setup", "router").endswith("is up to date; nothing was changed\n")
