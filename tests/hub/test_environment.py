"""The router's own environment: what it is made of, which one is used, and what remains when it cannot be made.

That it runs a router is tested in tests/install, which needs a package index.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement

from sisock.errors import MissingExtra
from sisock.site import load_site
from sisock.supervisor import check_installed
from sisock_hub import environment
from sisock_hub.environment import SetupFailed, python, setup_environment
from sisock_hub.router import start
from tests.commands import sisock

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "hub" / "sisock_hub" / "router-requirements.txt"


# Makes an environment with the pip of this checkout, for a fraction of the seconds that ensurepip takes.
QUICKLY = f"""
import signal, venv
from pathlib import Path
from sisock_hub import environment

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a script

create = venv.create

def create_quickly(place, **_):
    create(place, symlinks=True)
    pips = next(Path({str(ROOT / ".uv")!r}).glob("lib/python3*/site-packages"))
    next(place.glob("lib/python3*/site-packages")).joinpath("pip.pth").write_text(str(pips))

venv.create = create_quickly
"""


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An environment of sisock without a router's, and with a Crossbar that is too old."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(environment, "version", lambda name: "26.9.3")
    return tmp_path


def complete(place):
    place.mkdir(parents=True)
    (place / "complete").touch()


def test_requirements_are_those_of_the_lock():
    made = subprocess.run(
        ["make", "--silent", "router-requirements"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == REQUIREMENTS.read_text(), "run: make lock"


@pytest.mark.parametrize("python_version", ["3.11", "3.12", "3.13", "3.14"])
def test_requirements_hold_for_each_python(python_version):
    linux = {
        "python_version": python_version,
        "python_full_version": f"{python_version}.2",
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    needs = [Requirement(line) for line in REQUIREMENTS.read_text().splitlines()]
    chosen = [need.name for need in needs if need.marker is None or need.marker.evaluate(linux)]
    assert sorted(set(chosen)) == sorted(chosen)
    assert {"crossbar", "autobahn", "twisted", "numpy", "pydantic", "ruamel-yaml", "service-identity"} <= set(chosen)


def test_crossbar_beside_sisock_is_used_if_it_is_new_enough(prefix, monkeypatch):
    monkeypatch.setattr(environment, "version", lambda name: "26.10.1")
    assert python() == sys.executable


def test_crossbar_beside_sisock_that_is_too_old_for_the_guard_is_not_used(prefix):
    (prefix / "site.yaml").write_text("router: {port: 9000}\n")
    with pytest.raises(MissingExtra, match=r"^the router needs Crossbar.* run: sisock setup router$"):
        start(load_site(prefix))


def test_own_environment_is_used_before_crossbar_beside_sisock(prefix, monkeypatch):
    monkeypatch.setattr(environment, "version", lambda name: "26.10.1")
    place = environment.environment_folder()
    complete(place)
    assert place.is_relative_to(prefix / "share" / "sisock" / "router")
    assert python() == str(place / "bin" / "python")


def test_environment_that_is_not_complete_is_not_used(prefix):
    (environment.environment_folder() / "bin").mkdir(parents=True)
    with pytest.raises(MissingExtra, match=r"^the router needs Crossbar.* run: sisock setup router$"):
        python()


def test_environment_of_another_version_is_named(prefix, monkeypatch):
    complete(environment.environment_folder())
    changed = prefix / "router-requirements.txt"
    changed.write_text(REQUIREMENTS.read_text().replace("crossbar==", "crossbar==99."))
    monkeypatch.setattr(environment, "_REQUIREMENTS", changed)
    with pytest.raises(MissingExtra, match=r"is of another version of sisock; run: sisock setup router$"):
        python()


def test_complete_environment_is_not_made_again(prefix, monkeypatch):
    place = environment.environment_folder()
    complete(place)
    assert setup_environment(lambda step, advance: pytest.fail(step)) == (place, False)
    done = sisock("setup", "router", cwd=prefix)
    assert done.stdout == f"{place}: the environment of the router is up to date; nothing was changed\n"


def test_site_does_not_start_without_a_router_and_says_what_to_run(prefix):
    folder = prefix / "lab"
    assert sisock("init", folder, cwd=prefix).returncode == 0
    done = sisock("up", folder, cwd=prefix)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sisock: the router needs Crossbar, in an environment of its own; run: sisock setup router\n"
    )


def test_site_whose_router_is_elsewhere_needs_none(prefix):
    (prefix / "site.yaml").write_text("router: {url: 'ws://127.0.0.1:9/ws'}\n")
    check_installed(load_site(prefix))


def test_site_without_the_hubs_package_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr("sisock.supervisor.entry_points", lambda **_: ())
    (tmp_path / "site.yaml").write_text("router: {url: 'ws://127.0.0.1:9/ws'}\nhub: true\n")
    with pytest.raises(MissingExtra, match=r"need: pip install 'sisock-hub\[gateway\]'$"):
        check_installed(load_site(tmp_path))


def test_without_an_index_nothing_half_made_remains_and_nothing_is_removed(prefix, monkeypatch):
    """Port 9 of the loopback interface refuses connections."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(venv, "create", venv.create)  # and back
    exec(QUICKLY, {})
    place = environment.environment_folder()
    complete(place.with_name("another"))
    steps = []
    with pytest.raises(SetupFailed, match=r"Is a package index reachable(.|\n)*No matching distribution found"):
        setup_environment(lambda step, advance: steps.append(step))
    assert sorted(path.name for path in place.parent.iterdir()) == ["another", "lock"]
    assert "virtual environment" in steps
    with pytest.raises(MissingExtra, match="another version"):
        python()


def test_folder_that_cannot_be_written_to_is_named(prefix):
    (prefix / "share").write_text("not a folder")
    with pytest.raises(SetupFailed, match=r"^cannot write .*/share/sisock/router: Not a directory$"):
        setup_environment(lambda step, advance: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_neither_a_half_made_environment_nor_a_process(tmp_path, number):
    """The index accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        code = f"{QUICKLY}\nimport sys; sys.prefix = {str(tmp_path)!r}; from sisock.__main__ import main; main()"
        setup = subprocess.Popen(
            [sys.executable, "-c", code, "setup", "router"],
            env={**os.environ, "PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/simple"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        index.settimeout(60.0)
        with index.accept()[0]:
            started = psutil.Process(setup.pid).children(recursive=True)
            assert started
            setup.send_signal(number)
            output, _ = setup.communicate(timeout=60.0)
    assert setup.returncode == 128 + number
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(started, timeout=20.0)
    assert alive == []
    assert [path.name for path in (tmp_path / "share" / "sisock" / "router").iterdir()] == ["lock"]


def test_second_setup_waits_for_the_first(prefix, monkeypatch):
    place = environment.environment_folder()
    place.parent.mkdir(parents=True)
    first_has_it, second_waits = threading.Event(), threading.Event()

    def make(place, lock, progress):
        first_has_it.set()
        assert second_waits.wait(60.0)
        time.sleep(0.2)  # the second one would be making it by now
        complete(place)

    monkeypatch.setattr(environment, "_make", make)
    monkeypatch.setattr(environment.signal, "signal", lambda number, handler: None)  # not of this thread
    results = []
    first = threading.Thread(target=lambda: results.append(setup_environment(lambda step, advance: None)))
    first.start()
    assert first_has_it.wait(60.0)
    second = setup_environment(lambda step, advance: second_waits.set())
    first.join(60.0)
    assert results == [(place, True)]
    assert second == (place, False)
