"""A whole site, run and asked as a person does it."""

import itertools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sisock.cli import site as site_command
from sisock.consumer import BlockingConsumer
from sisock.errors import NoRouter, Refused
from sisock.site import load_site
from sisock.testing.fixtures import free_ports
from tests.commands import sisock

SISOCK = (sys.executable, "-m", "sisock")
WEATHER = Path(__file__).parents[2] / "examples" / "demo" / "seattle-weather.csv"


def runs(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process(*args, cwd):
    """Run a command in a process of its own."""
    return subprocess.run([*SISOCK, *args], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def write_site(folder, *, on_disk=False):
    port, rawsocket, gateway = free_ports(3)
    site = folder / "site.yaml"
    host, weather = [f"history: {{path: history/{name}}}" if on_disk else "" for name in ("host", "weather")]
    site.write_text(f"""\
router: {{port: {port}, rawsocket_port: {rawsocket}}}
gateway: {{port: {gateway}}}
nodes:
  host: {{type: host, intervals: {{cpu: 0.1}}, {host}}}
  weather:
    type: table
    {weather}
    path: {WEATHER}
    time: {{column: date, format: "%Y/%m/%d"}}
    fields: {{temp_max: {{units: °C}}}}
""")
    return site


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write_site(folder)
    assert sisock("init", ".", cwd=folder).returncode == 0
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    log = (folder / "up.log").open("w")
    up = subprocess.Popen([*SISOCK, "up", str(folder)], stdout=log, stderr=log, start_new_session=True, env=environment)
    log.close()
    try:
        wait_for_nodes(folder, {"host", "weather"})
        yield folder
    finally:
        everything = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        assert up.wait(60.0) == 0
        log = (folder / "up.log").read_text()
        assert re.findall(r"sisock  \| (stopping|stopped)$", log, re.M) == ["stopping", "stopped"]
        for noise in ("is killed", "not currently attached", "completing handshake", "expected"):
            assert noise not in log
        assert len(everything) >= 6  # router and its worker, hub, gateway, two nodes
        deadline = time.monotonic() + 20.0  # the kernel may take a moment with what was just killed
        while (left := [p for p in everything if runs(p)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []


def wait_for_nodes(folder, names, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while True:
        done = sisock("nodes", "--json", cwd=folder)
        if done.returncode == 0 and {node["name"] for node in json.loads(done.stdout)} >= names:
            return
        log = (folder / "up.log").read_text() if (folder / "up.log").exists() else ""
        assert time.monotonic() < deadline, done.stderr + log


def test_site_says_once_that_it_is_ready_with_its_console(folder):
    deadline = time.monotonic() + 60.0
    while not (said := re.findall(r"\| (ready in .*)", (folder / "up.log").read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    console = re.escape(load_site(folder).gateway.url)
    (line,) = said
    assert re.fullmatch(rf"ready in \d+ s: 2 nodes; console: {console}; in another terminal: .* nodes", line)


def test_site_that_is_not_ready_says_from_time_to_time_what_it_waits_for(tmp_path, monkeypatch):
    write_site(tmp_path)
    assert sisock("init", ".", cwd=tmp_path).returncode == 0
    monkeypatch.setattr(site_command, "_SILENCE_S", 0.1)
    said = queue.Queue()
    lines = SimpleNamespace(say=lambda _, line: said.put(line))
    threading.Thread(target=site_command.watch_start, args=(load_site(tmp_path), lines, None), daemon=True).start()
    for _ in range(2):
        assert re.fullmatch(r"not ready after \d+ s: waiting for the router", said.get(timeout=30.0))


def test_refused_login_is_logged_with_who_and_from_where(folder):
    site = load_site(folder)
    url = f"ws://127.0.0.1:{site.router.port}/ws"
    with pytest.raises(Refused), BlockingConsumer(replace(site.access(), url=url, secret="guess")) as consumer:
        consumer.nodes()
    with pytest.raises(NoRouter, match="is a sisock gateway"):
        BlockingConsumer(replace(site.access(), url=site.gateway.url.replace("http", "ws"))).nodes()
    refused = "a login as 'consumer' from 127.0.0.1 is refused: WAMP-CRA client signature is invalid"
    deadline = time.monotonic() + 20.0
    while refused not in (folder / "up.log").read_text():
        assert time.monotonic() < deadline, (folder / "up.log").read_text()
        time.sleep(0.1)


def test_nodes_are_listed(folder):
    done = process("nodes", cwd=folder)
    assert done.returncode == 0
    assert re.search(r"^host\tok\t\S+ s ago\tThis machine", done.stdout, re.M)
    names = [line.split("\t")[0] for line in done.stdout.splitlines()[1:]]
    assert names == sorted(names)


def test_fields_are_listed_with_units(folder):
    done = sisock("fields", "weather", cwd=folder)
    assert re.search(r"^temp_max\tnumber\t°C\tseattle-weather", done.stdout, re.M)


def test_samples_of_the_machine_come_and_change(folder):
    done = sisock("get", "host", "cpu.total", "--start", "-30s", "--json", cwd=folder)
    samples = json.loads(done.stdout)["timelines"]["cpu"]
    assert len(samples["t"]) == len(samples["data"]["cpu.total"]) >= 1
    assert all(value is None or 0 <= value <= 100 for value in samples["data"]["cpu.total"])
    assert abs(time.time() - samples["t"][-1]) < 10


def test_table_is_served_as_it_is_on_disk(folder):
    args = ("--start", "2012-01-01", "--end", "2012-01-03", "--csv")
    done = sisock("get", "weather", "temp_max", "weather", *args, cwd=folder)
    assert done.stdout.splitlines() == [
        "time,unix_time,temp_max,weather",
        "2012-01-01T00:00:00.000Z,1325376000.0,12.8,drizzle",
        "2012-01-02T00:00:00.000Z,1325462400.0,10.6,rain",
    ]


def test_start_all_begins_with_the_first_sample(folder):
    done = sisock("get", "weather", "temp_max", "--start", "all", "--end", "2012-01-02", "--csv", cwd=folder)
    assert done.stdout.splitlines()[1:] == ["2012-01-01T00:00:00.000Z,1325376000.0,12.8"]
    done = sisock("get", "weather", "temp_max", "--start", "all", "--end", "2000-01-01", cwd=folder)
    assert done.returncode == 0
    assert "no samples of temp_max in that interval; the newest sample is of 2015-12-31T00:00:00.000Z" in done.stderr
    done = sisock("export", "weather", "-o", "none.csv", "--start", "all", "--end", "2000-01-01", cwd=folder)
    assert done.returncode == 2
    assert "node weather has no samples in that interval" in done.stderr
    assert not (folder / "none.csv").exists()


def test_gateway_is_part_of_the_site(folder):
    with urllib.request.urlopen(load_site(folder).gateway.url + "api/v1/nodes", timeout=10.0) as answer:
        assert {node["name"] for node in json.load(answer)} >= {"host", "weather"}


def test_min_stride_thins_out(folder):
    done = sisock(
        "get",
        "weather",
        "wind",
        "--start",
        "2012-01-01",
        "--min-stride",
        "100d",
        "--downsample",
        "first",
        "--json",
        cwd=folder,
    )
    t = json.loads(done.stdout)["timelines"]["seattle-weather"]["t"]
    assert len(t) == 15
    assert min(b - a for a, b in itertools.pairwise(t)) >= 100 * 86400


def test_watch_shows_samples_as_they_come(folder):
    done = process("watch", "host", "cpu.total", "load.1m", "--count", "2", cwd=folder)
    assert done.returncode == 0
    assert len(re.findall(r"^\S+Z\tcpu\.total\t", done.stdout, re.M)) >= 2
    assert len(re.findall(r"^\S+Z\tload\.1m\t", done.stdout, re.M)) >= 2


def test_plot_is_drawn(folder):
    done = sisock("get", "weather", "temp_max", "--start", "2012-01-01", "--plot", cwd=folder)
    assert "temp_max [°C]" in done.stdout
    assert "┤" in done.stdout
    assert "\x1b" not in done.stdout


def test_status_counts(folder):
    status = json.loads(sisock("status", "weather", "--json", cwd=folder).stdout)
    assert status["timelines"]["seattle-weather"]["samples"] == 1461
    assert status["sources"][0]["counters"]["rows"] == 1461


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fields", "nobody"), r"no node 'nobody'; known: (host, weather|weather, host)"),
        (("get", "host", "cpu.totl"), r"no field 'cpu.totl'; did you mean cpu.total"),
        (("get", "host", "cpu.total", "--start", "-1m", "--end", "-2m"), r"end \(-120.0\) lies before start \(-60.0\)"),
        (("get", "host", "cpu.total", "--start", "nan"), r"'nan' is not a valid time"),
        (("get", "host", "cpu.total", "--min-stride", "x"), r"'x' is not a valid duration"),
        (("node", "run", "nobody"), r"has no node 'nobody'; it has: host, weather"),
        (("node", "run", "host"), r"the name 'host' is taken"),
        (("hub",), r"another hub has already joined"),
        (("up",), r"is being run by process \d+ already"),
        (("router",), r"port \d+ is taken by another program; stop that, or set router.port"),
        (("check", "no-such.yaml"), r"there is no such site file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_status_2(folder, args, message):
    runs_a_part = args[0] in ("node", "hub", "up", "router")
    done = (process if runs_a_part else sisock)(*args, cwd=folder)
    assert done.returncode == 2, done.stderr
    *log, line = done.stderr.strip().splitlines()
    assert line.startswith("sisock: ")
    assert re.search(message, line), line
    assert not any("Traceback" in each for each in log)
    assert "Traceback" not in done.stdout


def test_wrong_secret_is_told(folder):
    environment = {**os.environ, "WAMP_USER": "consumer", "WAMP_SECRET": "wrong"}
    done = sisock("nodes", cwd=folder, env=environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "user or secret is wrong" in done.stderr
    assert "the secret is from WAMP_SECRET in the environment: unset it to use that of the site" in done.stderr


def test_wrong_secret_of_a_file_is_told_with_the_file(folder, tmp_path):
    copy = tmp_path / "lab"
    copy.mkdir()
    socket = folder / ".sisock" / "router.sock"
    (copy / "site.yaml").write_text(f"router: {{url: 'unix:{socket}'}}\n")
    secrets = re.sub(r"(consumer\n  secret: )\S+", r"\1wrong", (folder / "secrets.yaml").read_text())
    with os.fdopen(os.open(copy / "secrets.yaml", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(secrets)
    with pytest.raises(
        Refused, match=rf"refused 'consumer' .*; the secret is from {copy}/secrets.yaml: restart the router"
    ):
        BlockingConsumer(copy).__enter__()


def test_router_that_is_not_there_is_told(folder):
    port = free_ports(1)[0]
    environment = {**os.environ, "WAMP_URI": f"ws://127.0.0.1:{port}/ws", "WAMP_SECRET": "x"}
    done = sisock("nodes", cwd=folder, env=environment)
    assert done.returncode == 2
    assert f"no router answers at ws://127.0.0.1:{port}/ws" in done.stderr
    assert done.stderr.count("\n") == 1


def test_running_site_is_found_from_anywhere(folder, tmp_path):
    done = sisock("nodes", cwd=tmp_path, env={**os.environ, "XDG_RUNTIME_DIR": str(folder)})
    assert "host\t" in done.stdout


def test_killed_router_is_started_again_with_all_nodes_and_their_samples(folder):
    before = json.loads(sisock("status", "host", "--json", cwd=folder).stdout)
    up = psutil.Process(int((folder / ".sisock" / "up.lock").read_text()))
    controller = next(p for p in up.children() if "crossbar" in " ".join(p.cmdline()))
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait(60.0)
    wait_for_nodes(folder, {"host", "weather"})
    after = json.loads(sisock("status", "host", "--json", cwd=folder).stdout)
    assert after["since"] == before["since"]  # the node itself was not restarted
    cpu = json.loads(sisock("get", "host", "cpu.total", "--json", cwd=folder).stdout)["timelines"]["cpu"]
    assert max(b - a for a, b in zip(cpu["t"], cpu["t"][1:], strict=False)) < 1.9  # a reading every second, throughout


def test_plain_wamp_client_reads_everything(folder):
    site = (folder / "site.yaml").read_text()
    port = re.search(r"port: (\d+)", site)[1]
    secret = re.search(r"consumer\n  secret: (\S+)", (folder / "secrets.yaml").read_text())[1]
    example = Path(__file__).parents[2] / "examples" / "bare_wamp.py"
    assert "sisock" not in "".join(re.findall(r"^(?:from|import) .*$", example.read_text(), re.M))
    done = subprocess.run(
        [sys.executable, str(example), "host", "cpu.total"],
        env={**os.environ, "WAMP_URI": f"ws://127.0.0.1:{port}/ws", "WAMP_SECRET": secret},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "nodes: host, weather" in done.stdout
    assert "cpu.total [%] is on cpu" in done.stdout
    assert done.stdout.count("feed: ") == 3


def test_ask_example_reads_the_site(folder):
    example = Path(__file__).parents[2] / "examples" / "ask.py"
    done = subprocess.run(
        [sys.executable, str(example), str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "cpu.total [%]" in done.stdout
    assert "now: [" in done.stdout


@pytest.mark.parametrize(("example", "node", "field"), [("dice.py", "dice", "dice.value"), ("sine.py", "sine", "sine")])
def test_node_examples_are_served(folder, example, node, field):
    path = Path(__file__).parents[2] / "examples" / example
    if example == "dice.py":
        code = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(code) <= 15
    secret = re.search(r"server\n  secret: (\S+)", (folder / "secrets.yaml").read_text())[1]
    socket = folder / ".sisock" / "router.sock"
    environment = {**os.environ, "WAMP_URI": f"unix:{socket}", "WAMP_SECRET": secret}
    with subprocess.Popen([sys.executable, str(path)], env=environment, stderr=subprocess.PIPE, text=True) as served:
        try:
            wait_for_nodes(folder, {node})
            deadline = time.monotonic() + 60.0
            values = []
            while len(values) < 5:
                done = sisock("get", node, field, "--start", "-10s", "--json", cwd=folder)
                values = next(iter(json.loads(done.stdout or '{"timelines": {}}')["timelines"].values()), {"t": []})[
                    "t"
                ]
                assert time.monotonic() < deadline, done.stderr
        finally:
            try:
                # Not Ctrl-C's signal: a shell that runs us in the background has it ignored, by us and by our children.
                served.terminate()
                assert served.wait(30.0) == 0, served.stderr.read()
            finally:
                served.kill()


@contextmanager
def running(folder):
    """Run a site, and leave nothing of it behind."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    with (folder / "up.log").open("a") as log:
        up = subprocess.Popen(
            [*SISOCK, "up", str(folder)], stdout=log, stderr=log, start_new_session=True, env=environment
        )
    try:
        wait_for_nodes(folder, {"host", "weather"})
        yield up
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60.0)


def asked(folder, timeline, *args):
    done = sisock("get", *args, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["timelines"].get(timeline, {"t": []})


def asked_until(number, *args):
    """Ask until there is a number of samples."""
    deadline = time.monotonic() + 60.0
    while len((answer := asked(*args))["t"]) < number:
        assert time.monotonic() < deadline
    return answer


@pytest.mark.long
def test_site_that_is_killed_has_its_past_again_when_it_is_started_anew(tmp_path):
    write_site(tmp_path, on_disk=True)
    assert sisock("init", ".", cwd=tmp_path).returncode == 0
    ask_cpu = ("cpu", "host", "cpu.total", "--start", "-1d", "--max-points", "100000")
    ask_weather = ("seattle-weather", "weather", "temp_max", "--start", "2012-01-01", "--end", "2016-01-01")
    with running(tmp_path) as up:
        everything = psutil.Process(up.pid).children(recursive=True)
        before = asked_until(20, tmp_path, *ask_cpu)
        weather = asked(tmp_path, *ask_weather)
        up.kill()
    psutil.wait_procs(everything, 10.0)
    with running(tmp_path):
        n = len(before["t"])
        after = asked_until(n + 10, tmp_path, *ask_cpu)
        assert after["t"][:n] == before["t"]
        assert after["data"]["cpu.total"][:n] == before["data"]["cpu.total"]
        (gap,) = after["gaps"]
        assert before["t"][-1] <= gap[0] < gap[1] <= after["t"][-1]
        again = asked(tmp_path, *ask_weather)
        assert again["data"] == weather["data"]
        assert len(again["data"]["temp_max"]) > 1400
        status = json.loads(sisock("status", "weather", "--json", cwd=tmp_path).stdout)
    (timeline,) = status["timelines"].values()
    assert timeline["late"] == 0
    assert timeline["repeated"] > 1400
    assert status["history"]["path"] == str(tmp_path / "history" / "weather")
