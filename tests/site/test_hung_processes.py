"""A whole site whose processes hang: what the watchdog of `sisock up` restarts, and what a killed `up` leaves."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import psutil
import pytest

from sisock.leftovers import end_leftovers
from sisock.site import load_site
from sisock.supervisor import check_free
from sisock.testing.fixtures import free_ports
from tests.site.test_up import SISOCK, runs, sisock, wait_for_nodes

WATCHDOG_S = 10

pytestmark = pytest.mark.timeout(600)


@contextmanager
def started(folder):
    """Run a site, and leave nothing of it behind, whatever became of `up`."""
    with (folder / "up.log").open("a") as log:
        up = subprocess.Popen(
            [*SISOCK, "up", str(folder)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        )
    try:
        wait_for_nodes(folder, {"disk", "memory"}, 180.0)
        yield psutil.Process(up.pid)
    finally:
        everything = psutil.Process(up.pid).children(recursive=True) if up.poll() is None else []
        up.terminate()
        up.wait(60.0)
        for process in everything:
            if runs(process):
                process.kill()


def part(up, *words):
    """Return a process of a site, by words of its command line, with its children."""
    (found,) = [p for p in up.children() if all(word in " ".join(p.cmdline()) for word in words)]
    return [found, *found.children(recursive=True)]


def send(number, processes):
    for process in processes:
        process.send_signal(number)


def status(folder, node):
    done = sisock("status", node, "--json", cwd=folder)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def until(condition, what, timeout_s=120.0):
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)
    return result


@pytest.fixture
def folder(tmp_path):
    port, rawsocket, gateway = free_ports(3)
    (tmp_path / "site.yaml").write_text(f"""\
router: {{port: {port}, rawsocket_port: {rawsocket}}}
gateway: {{port: {gateway}}}
nodes:
  disk: {{type: host, watchdog: {WATCHDOG_S}s, history: {{path: history}}}}
  memory: {{type: host}}
""")
    assert sisock("init", ".", cwd=tmp_path).returncode == 0
    yield tmp_path
    end_leftovers(tmp_path / ".sisock" / "run")


@pytest.mark.long
def test_node_that_hangs_is_restarted_and_nothing_is_while_the_router_and_the_hub_hang(folder):
    def log():
        return (folder / "up.log").read_text()

    with started(folder) as up:
        router, hub = part(up, "crossbar"), part(up, " hub ")
        disk, memory = part(up, " disk ")[0], part(up, " memory ")[0]
        send(signal.SIGSTOP, [*router, *hub, memory])
        time.sleep(WATCHDOG_S + 5.0)
        send(signal.SIGCONT, [*router, *hub])
        until(lambda: status(folder, "disk"), log)
        assert "disk hangs" not in log()
        disk.suspend()
        restarted = until(lambda: (process := status(folder, "disk").get("process", {})).get("hangs") and process, log)
        assert restarted == {"restarts": 1, "hangs": 1, "last_exit": f"hung for {WATCHDOG_S} s"}
        assert log().count("disk hangs: no sign of life for 10 s; it is restarted") == 1
        assert "disk ended" not in log()
        assert not runs(disk)
        assert memory.status() == psutil.STATUS_STOPPED  # it has no history on disk that it could have again
        memory.resume()


@pytest.mark.long
def test_nothing_of_a_killed_run_is_left_by_the_next_start_although_it_hangs(folder):
    with started(folder) as up:
        everything = up.children(recursive=True)
        router = part(up, "crossbar")
        assert len(router) >= 2  # Crossbar's worker is a process of its own
        # The process that would kill all of them at once is stopped as well.
        send(signal.SIGSTOP, [*router, *part(up, " disk "), *part(up, " gateway "), *part(up, "launcher.py", "watch")])
        up.kill()
        up.wait(30.0)
    with started(folder) as up:
        assert not any(runs(process) for process in everything)
        assert {p.pid for p in up.children(recursive=True)}.isdisjoint({p.pid for p in everything})
        left = [line for line in (folder / "up.log").read_text().splitlines() if "had left" in line]
        assert len(left) == 1
    check_free(load_site(folder))
