"""The command line, as far as it needs no router."""

import io
import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sisock.cli import making, show
from sisock.cli.app import build
from sisock.cli.ask import tree
from sisock.cli.making import make_site
from sisock.consumer import Data, FieldInfo
from sisock.errors import NoSuchField, SiteError
from sisock.fields import Field, Quantity, Samples, Timeline, as_batch
from sisock.patterns import choose_fields
from sisock.recording import create_recording
from sisock.running import forget_running, record_running, running_sites
from sisock.site import load_site
from sisock.times import iso
from tests.commands import sisock


def process(*args, cwd, **environment):
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sisock", *args],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_init_makes_a_site_that_checks_and_secrets_that_only_the_owner_reads(tmp_path):
    done = process("init", "lab", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lab = tmp_path / "lab"
    assert stat.S_IMODE((lab / "secrets.yaml").stat().st_mode) == 0o600
    accounts = load_site(lab).secrets
    secrets = {account.secret.get_secret_value() for own in accounts.accounts.values() for account in own}
    assert list(accounts.accounts) == ["server", "consumer", "operator", "gateway"]
    assert len(secrets) == 4
    assert min(map(len, secrets)) >= 40
    done = process("check", "lab/site.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert "fine: router on 127.0.0.1:8080, hub, gateway on 127.0.0.1:8082; nodes: host (host)" in done.stdout


@pytest.mark.parametrize(("most_bytes", "options"), [(0, []), (1000, []), (600, ["--tls"])])
def test_init_that_the_disk_takes_no_file_of_leaves_none_half_made(tmp_path, most_bytes, options):
    # What a full disk does, without one: no file may have more bytes.
    limited = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({most_bytes}, {most_bytes})); import sisock.cli.app as a; a.main()"
    command = [sys.executable, "-c", limited, "init", "lab", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot write " in done.stderr
    assert [path for path in (tmp_path / "lab").rglob("*") if path.is_file()] == []
    assert make_site(tmp_path / "lab")
    assert load_site(tmp_path / "lab").nodes


def test_check_tells_what_the_gateway_would_lack(tmp_path):
    make_site(tmp_path)
    site, secrets = tmp_path / "site.yaml", tmp_path / "secrets.yaml"
    before = site.read_text()
    site.write_text(before + "gateway: {host: 0.0.0.0, plain: true}\n")
    done = sisock("check", cwd=tmp_path)
    assert (done.returncode, "needs users or tokens" in " ".join(done.stderr.split())) == (2, True)
    site.write_text(before + "gateway: {operator: true}\n")
    assert sisock("check", cwd=tmp_path).returncode == 0
    secrets.write_text(secrets.read_text().partition("operator:")[0])
    done = sisock("check", cwd=tmp_path)
    assert (done.returncode, "has no account `operator`" in " ".join(done.stderr.split())) == (2, True)


def test_init_changes_nothing_that_is_there(tmp_path):
    make_site(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = sisock("init", cwd=tmp_path)
    assert "all files exist already" in done.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("flags", "nodes", "history"),
    [
        ((), ["host"], "history/host"),
        (("--history", "--example"), ["host"], "history/host"),
        (("--no-history",), ["host"], None),
        (("--no-example",), [], None),
    ],
)
def test_init_takes_flags_for_the_history_and_the_example(tmp_path, flags, nodes, history):
    done = sisock("init", "lab", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lab = load_site(tmp_path / "lab")
    assert [*lab.nodes] == nodes
    for node in lab.nodes.values():
        assert node.history.path == (tmp_path / "lab" / history if history else None)
    assert sisock("check", "lab", cwd=tmp_path).returncode == 0
    assert f"next: {done.stdout.rpartition('next: ')[2]}".endswith("sisock up lab\n")


@pytest.mark.parametrize("flags", [(), ("--no-history",), ("--no-example",)])
def test_what_is_commented_out_in_a_new_site_is_right_when_it_is_not(tmp_path, flags):
    assert sisock("init", ".", *flags, cwd=tmp_path).returncode == 0
    path = tmp_path / "site.yaml"
    path.write_text(re.sub(r"^#(?=\w| {2,}\w+: |  +\w+:)(?!   sisock)", "", path.read_text(), flags=re.M))
    site = load_site(path)
    assert site.gateway.operator
    assert site.nodes["weather"].fields["temp_max"].units == "°C"
    assert site.nodes["host"].history.path == tmp_path / "history" / "host"


def test_site_in_a_git_repository_keeps_its_secrets_out_of_it(tmp_path):
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    git(["git", "init", "--quiet"])
    make_site(tmp_path / "lab", tls=True)
    for written in ("lab/.sisock/router/config.json", "lab/history/host/manifest"):
        (tmp_path / written).parent.mkdir(parents=True)
        (tmp_path / written).touch()
    assert git(["git", "ls-files", "--others", "--exclude-standard"]).stdout.split() == [
        *("lab/.gitignore", "lab/site.yaml", "lab/tls/ca.pem", "lab/tls/server.pem")
    ]
    assert make_site(tmp_path / "lab") == []
    # One that somebody else has made is left as it is.
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    assert make_site(tmp_path)[-1].startswith(f"{tmp_path}/.gitignore: exists already; add secrets.yaml")
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n"


def test_init_overwrites_nothing(tmp_path):
    make_site(tmp_path)
    before = (tmp_path / "site.yaml").read_bytes()
    done = sisock("init", ".", "--no-history", cwd=tmp_path)
    assert done.returncode == 2
    assert "site.yaml exists already and is not overwritten" in done.stderr
    assert (tmp_path / "site.yaml").read_bytes() == before
    done = sisock("--site", "lab", "init", cwd=tmp_path)
    assert (done.returncode, "init takes no site; leave --site out" in done.stderr) == (2, True)


def test_init_asks_on_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sisock", "init", "lab"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as asking:
        os.close(theirs)
        shown = ""
        for question, answer in (("first node? [Y/n]: ", "\n"), ("through restarts? [Y/n]: ", "n\n")):
            while question not in shown:
                shown += os.read(ours, 4096).decode()
            os.write(ours, answer.encode())
        assert asking.wait(60.0) == 0
    os.close(ours)
    assert load_site(tmp_path / "lab").nodes["host"].history.path is None


def test_init_without_the_package_of_the_example_makes_a_site_without_nodes(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "node_types", dict)
    assert sisock("init", "lab", cwd=tmp_path).returncode == 0
    assert load_site(tmp_path / "lab").nodes == {}
    done = sisock("init", "hall", "--example", cwd=tmp_path)
    assert (done.returncode, "run: pip install sisock-nodes" in done.stderr) == (2, True)


def test_part_of_a_site_of_which_all_is_commented_out_is_as_if_it_were_not_there(tmp_path):
    (tmp_path / "site.yaml").write_text("realm:\nrouter:\ngateway:\nnodes:\n# a: {type: host}\n")
    site = load_site(tmp_path)
    assert (site.nodes, site.router.port, site.realm) == ({}, 8080, "test_realm")


def test_init_with_tls_makes_certificates_and_a_site_that_uses_them(tmp_path):
    done = sisock("init", ".", "--tls", "--name", "lab.example", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_site(tmp_path).router.tls.ca == tmp_path / "tls" / "ca.pem"
    assert sisock("check", cwd=tmp_path).returncode == 0


def test_key_of_another_certificate_is_told(tmp_path):
    assert sisock("init", "a", "--tls", cwd=tmp_path).returncode == 0
    assert sisock("init", "b", "--tls", cwd=tmp_path).returncode == 0
    shutil.copy(tmp_path / "b/tls/server.key", tmp_path / "a/tls/server.key")
    with pytest.raises(SiteError, match="cannot be used: KEY_VALUES_MISMATCH"):
        load_site(tmp_path / "a")


def test_init_with_tls_says_what_a_site_that_is_there_lacks(tmp_path):
    make_site(tmp_path)
    done = sisock("init", ".", "--tls", cwd=tmp_path)
    assert "add `tls: {}` below `router:`" in done.stdout


def test_check_tells_every_problem_with_file_line_and_key(tmp_path):
    (tmp_path / "site.yaml").write_text("router:\n  port: x\n  speed: 9\nnodes:\n  a: {type: host}\n")
    done = sisock("check", cwd=tmp_path)
    assert done.returncode == 2
    first, second, third = done.stderr.strip().splitlines()
    assert first.startswith(f"sisock: {tmp_path}/site.yaml:2: router.port: ")
    assert second == f"sisock: {tmp_path}/site.yaml:3: router.speed: is not a key that is known here"
    assert third.startswith(f"sisock: {tmp_path}/secrets.yaml: there is no such file")


def test_check_is_json_for_machines(tmp_path):
    make_site(tmp_path)
    done = json.loads(sisock("check", "--json", cwd=tmp_path).stdout)
    assert done["nodes"] == {"host": "host"}
    assert done["hub"] is True


def test_check_warns_of_the_former_name_of_a_node_type(tmp_path):
    make_site(tmp_path)
    with create_recording(tmp_path / "night.parquet") as recording:
        recording.append(Timeline("t", [Field("x")]), as_batch("t", [1e9], {"x": [1.0]}))
    site = tmp_path / "site.yaml"
    for name, expected in (("file", ""), ("recording", "nodes.old: type recording is deprecated; write type: file\n")):
        site.write_text(f"gateway: false\nnodes:\n  old: {{type: {name}, path: night.parquet}}\n")
        done = sisock("check", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, expected)


def test_up_refuses_a_broken_site_before_anything_starts(tmp_path):
    make_site(tmp_path)
    (tmp_path / "secrets.yaml").chmod(0o644)
    done = process("up", cwd=tmp_path)
    assert done.returncode == 2
    assert "can be read by others; run: chmod 600" in done.stderr
    assert not (tmp_path / ".sisock").exists()


def test_no_site_at_all_is_told_with_what_to_do(tmp_path):
    done = process("nodes", cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "make one with `sisock init`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [("get", "host"), ("nonsense",), ("get", "host", "x", "--colour")])
def test_wrong_usage_ends_with_status_2_and_no_traceback(tmp_path, args):
    done = sisock(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage: sisock" in done.stderr


def test_node_types_are_listed_with_their_package(tmp_path):
    types = {row["type"]: row["package"] for row in json.loads(sisock("node", "types", "--json", cwd=tmp_path).stdout)}
    names = ("file", "host", "kafka", "keyvalue", "ocs-feed", "python", "python-source", "recorder", "table", "udp")
    assert types == dict.fromkeys(names, "sisock-nodes")


def test_running_site_is_remembered_while_its_process_lives(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert running_sites() == []
    record_running(Path("/somewhere/site.yaml"))
    assert [(site.path, site.pid) for site in running_sites()] == [(Path("/somewhere/site.yaml"), os.getpid())]
    forget_running()
    assert running_sites() == []
    # What a process that is gone has left is not believed, even if its number is used again.
    record = tmp_path / "sisock" / "running.json"
    record.write_text(json.dumps([{"site": "/x", "pid": os.getpid(), "started": "1"}]))
    assert running_sites() == []


def info(name):
    return FieldInfo(name, "number", None, None, "tl", None)


def test_patterns_choose_fields_each_once():
    infos = {name: info(name) for name in ("cpu.total", "cpu.0", "load.1m")}
    assert choose_fields("n", ["cpu.*", "cpu.total", "load.1m"], infos) == ["cpu.total", "cpu.0", "load.1m"]
    with pytest.raises(NoSuchField, match=r"did you mean cpu\.total"):
        choose_fields("n", ["cpu.totla"], infos)
    with pytest.raises(NoSuchField, match="sisock fields n"):
        choose_fields("n", ["zzz"], infos)


def test_values_are_shown_as_people_read_them():
    assert show.value(float("nan")) == ""
    assert show.value(1234567.0) == "1.23457e+06"
    assert show.value(True) == "true"
    assert show.value("5 °C \x1b[2J\n") == r"5 °C \x1b[2J\n"
    assert show.heading(Quantity("x", Field("x", units="1"), np.ones(1, bool), np.ones(1))) == "x"
    assert iso(1.25) == "1970-01-01T00:00:01.250Z"
    assert show.sparkline([0.0, float("nan"), 1.0]) == "▁ █"


def test_help_is_quick_and_names_every_command(tmp_path):
    began = time.perf_counter()
    done = process("--help", cwd=tmp_path)
    assert time.perf_counter() - began < 10.0
    for command in build().registered_commands:
        assert (command.name or command.callback.__name__) in done.stdout


def test_help_loads_no_network_library(tmp_path):
    script = "import sys; from sisock.cli.app import build; build(); print('autobahn' in sys.modules or 'crossbar' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_csv_has_plain_line_ends_and_lower_case_bools():
    columns = {"on": np.array([True, False]), "x": np.array([np.inf, 1.5]), "s": np.array(["a", None], object)}
    out = io.StringIO(newline="")
    show.as_csv(out, Data("node", {"tl": Samples(np.array([1.0, 2.0]), columns, None)}, [], {}))
    assert out.getvalue() == (
        "time,unix_time,on,x,s\n1970-01-01T00:00:01.000Z,1.0,true,,a\n1970-01-01T00:00:02.000Z,2.0,false,1.5,\n"
    )


def test_status_shows_bools_as_true_and_false_and_nothing_for_none():
    assert list(tree({"a": True, "b": {"c": False, "d": None}})) == ["a: true", "b:", "  c: false", "  d: "]
