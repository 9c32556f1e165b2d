"""Finding the site: the same for commands, consumers and nodes."""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from sisock import BlockingConsumer, Consumer, serve
from sisock.cli.making import make_site
from sisock.errors import BadRequest, NoRouter, SiteError
from sisock.running import record_running, running_sites
from sisock.site import find_access, find_site, load_site
from tests.commands import sisock


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A user who runs no site, in an empty folder."""
    runtime, folder = tmp_path / "runtime", tmp_path / "here"
    runtime.mkdir()
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def sites(runtime, tmp_path):
    """Make sites of some names, beside that folder."""

    def made(*names):
        for name in names:
            make_site(tmp_path / name)
        return [tmp_path / name for name in names]

    return made


def secret(folder, role="consumer"):
    return load_site(folder).secrets.accounts[role][0].secret.get_secret_value()


def test_site_that_is_named_is_taken_as_its_file_says(sites, monkeypatch):
    (lab,) = sites("lab")
    monkeypatch.setenv("WAMP_URI", "ws://elsewhere:1/ws")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    for named in (lab, str(lab), lab / "site.yaml", os.path.relpath(lab)):
        access = find_access(named)
        assert Path(access.url.removeprefix("unix:")).parent.parent.resolve() == lab
        assert (access.user, access.secret) == ("consumer", secret(lab))
        assert Path(access.secret_source).samefile(lab / "secrets.yaml")
    assert find_access(lab, "server").secret == secret(lab, "server")
    assert find_access(access) is access


def test_environment_with_address_and_secret_needs_no_site(runtime, monkeypatch):
    monkeypatch.setenv("WAMP_URI", "ws://elsewhere:1/ws")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    access = find_access()
    assert (access.url, access.user, access.secret) == ("ws://elsewhere:1/ws", "server", "mine")
    assert access.secret_source == "WAMP_SECRET"


def test_secret_alone_is_for_the_default_address(runtime, monkeypatch):
    monkeypatch.setenv("WAMP_SECRET", "mine")
    assert find_access().url == "ws://127.0.0.1:8080/ws"


def test_address_alone_needs_the_accounts_of_a_site(sites, monkeypatch):
    monkeypatch.setenv("WAMP_URI", "ws://elsewhere:1/ws")
    with pytest.raises(BadRequest, match="which site"):
        find_access()
    (lab,) = sites("lab")
    monkeypatch.chdir(lab)
    access = find_access()
    assert (access.url, access.user, access.secret) == ("ws://elsewhere:1/ws", "consumer", secret(lab))


def test_variable_names_the_site_before_the_folder_does(sites, monkeypatch):
    lab, hall = sites("lab", "hall")
    monkeypatch.chdir(hall)
    assert find_site().folder == hall
    monkeypatch.setenv("SISOCK_SITE", str(lab))
    assert find_site().folder == lab
    monkeypatch.setenv("WAMP_USER", "me")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    access = find_access()
    assert (access.url, access.user, access.secret) == (f"unix:{lab}/.sisock/router.sock", "me", "mine")
    monkeypatch.setenv("SISOCK_SITE", "nowhere")
    with pytest.raises(BadRequest, match=r"SISOCK_SITE is 'nowhere', and there is no such file"):
        find_access()


def test_one_site_that_runs_is_found_from_anywhere(sites):
    (lab,) = sites("lab")
    with pytest.raises(BadRequest, match=r"there is no site.yaml in \S+/here and none is running"):
        find_site()
    record_running(lab / "site.yaml")
    assert find_site().folder == lab
    assert BlockingConsumer().access.user == Consumer().access.user == "consumer"
    assert find_access(role="server").user == "server"


@pytest.mark.parametrize(
    "command", ["nodes", "call host confirm_clock", "get host cpu.total", "check", "up", "env", "export host -o x.csv"]
)
def test_of_two_sites_that_run_none_is_picked(sites, runtime, command):
    for folder in sites("lab", "hall"):
        record_running(folder / "site.yaml")
    done = sisock(*command.split(), cwd=runtime)
    assert done.returncode == 2
    assert done.stdout == ""
    first, *listed = done.stderr.splitlines()
    assert "which site? several are running; name one: --site or SISOCK_SITE" in first
    for name, line in zip(("lab", "hall"), listed, strict=True):
        assert re.fullmatch(rf"sisock:   {runtime.parent}/{name}/site.yaml \(since \S+Z, process {os.getpid()}\)", line)


def test_of_two_sites_that_run_the_one_of_the_folder_is_taken(sites, monkeypatch):
    lab, hall = sites("lab", "lab/hall")
    for folder in (hall, lab):
        record_running(folder / "site.yaml")
    monkeypatch.chdir(lab / ".")
    assert find_site().folder == lab
    for within, meant in ((lab / "data", lab), (hall / "data" / "more", hall)):
        within.mkdir(parents=True)
        monkeypatch.chdir(within)
        assert find_site().folder == meant
    # Neither has this name, so that only what runs tells which is meant.
    for name in ("one.yaml", "two.yaml"):
        (lab / "data" / name).write_text("")
        record_running(lab / "data" / name)
    monkeypatch.chdir(lab / "data")
    with pytest.raises(BadRequest, match=r"several are running.*\n.*data/one.yaml .*\n.*data/two.yaml [^\n]*$"):
        find_site()


def test_record_that_a_killed_site_or_a_full_disk_has_left_is_not_believed(sites, runtime):
    (lab,) = sites("lab")
    record = runtime.parent / "runtime" / "sisock" / "running.json"
    record_running(lab)
    gone = subprocess.Popen(["true"])
    gone.wait()
    record.write_text(json.dumps([{"site": str(lab), "pid": gone.pid, "started": "1"}]))
    assert running_sites() == []
    for content in ("", "[", "[1]", "{}", '[{"pid": 1}]'):
        record.write_text(content)
        assert running_sites() == []


@pytest.mark.parametrize("what", ["file", "link", "folder that others write to"])
def test_site_runs_where_its_record_is_in_the_hands_of_others(runtime, what):
    place, elsewhere = runtime.parent / "runtime" / "sisock", runtime / "elsewhere"
    elsewhere.mkdir()
    match what:
        case "file":
            place.write_text("")
        case "link":
            place.symlink_to(elsewhere)
        case _:
            place.mkdir()
            place.chmod(0o777)
    assert running_sites() == []
    make_site(runtime, example=False)
    (runtime / "site.yaml").write_text("router: {url: 'ws://127.0.0.1:1/ws'}\nhub: true\n")
    command = [sys.executable, "-m", "sisock", "up"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        try:
            first = up.stdout.readline()
        finally:
            up.terminate()
        _, errors = up.communicate(timeout=60)
    assert f"running {runtime}/site.yaml" in first
    assert errors.count("this site cannot be recorded as running") == 2
    assert "other commands need --site to find this one" in errors
    assert up.returncode == 0
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("address", ["ws://127.0.0.1:8080/ws", "unix:/run/x.sock", "http://127.0.0.1:8082/"])
def test_address_in_the_place_of_a_site_is_refused_with_what_to_do(runtime, address):
    with pytest.raises(BadRequest, match="is an address; give the folder or the file of a site, or set WAMP_URI"):
        BlockingConsumer(address)


def test_site_may_be_named_before_the_command(sites, runtime):
    lab, hall = sites("lab", "hall")
    done = sisock("--site", lab, "check", cwd=runtime)
    assert done.stdout.startswith(f"{lab}/site.yaml: fine")
    done = sisock("--site", lab, "check", lab, cwd=runtime)
    assert done.returncode == 0
    done = sisock("--site", lab, "nodes", "--site", hall, cwd=runtime)
    assert (done.returncode, done.stderr) == (2, f"sisock: two sites are named, {lab} and {hall}; name one\n")
    assert "which site?" in sisock("check", cwd=runtime).stderr  # nothing stays


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("demo", ["there"]),
        ("init", ["there"]),
        ("node types", []),
        ("history", ["there"]),
        ("import", ["x.csv", "--into", "there"]),
        ("setup", ["router"]),
    ],
)
def test_site_before_a_command_that_takes_none_is_refused(sites, runtime, command, arguments):
    (lab,) = sites("lab")
    done = sisock("--site", lab, *command.split(), *arguments, cwd=runtime)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sisock: {command} takes no site; leave --site out\n"
    assert not (runtime / "there").exists()


def test_version_is_shown(runtime):
    done = sisock("--version", cwd=runtime)
    assert done.returncode == 0
    assert re.fullmatch(r"sisock 0\.1\.0, sisock-hub 0\.1\.0, sisock-nodes 0\.1\.0\n", done.stdout)


AWKWARD = 'it\'s $HOME `ls` "x" \\ #é'


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_env_is_evaluated_by_shells(sites, runtime, shell):
    (lab,) = sites("lab")
    secrets = lab / "secrets.yaml"
    secrets.write_text(secrets.read_text().replace(secret(lab), json.dumps(AWKWARD)))
    done = sisock("env", "--site", lab, cwd=runtime)
    script = (
        f'{done.stdout}printf "%s\\n" "$WAMP_URI" "$REALM" "$BASE_URI" "$WAMP_USER" "$WAMP_SECRET" "${{WAMP_CA-unset}}"'
    )
    shown = subprocess.run([shell, "-euc", script], env={"WAMP_CA": "/x"}, capture_output=True, text=True, check=True)
    expected = ["ws://127.0.0.1:8080/ws", "test_realm", "org.simonsobservatory", "consumer", AWKWARD, "unset"]
    assert shown.stdout.splitlines() == expected


def test_env_in_fish_and_for_another_role(sites, runtime):
    (lab,) = sites("lab")
    secrets = lab / "secrets.yaml"
    secrets.write_text(secrets.read_text().replace(secret(lab, "server"), json.dumps(AWKWARD)))
    lines = sisock("env", "--site", lab, "--role", "server", "--shell", "fish", cwd=runtime).stdout.splitlines()
    assert "set -gx WAMP_USER 'server'" in lines
    assert lines[4] == "set -gx WAMP_SECRET 'it\\'s $HOME `ls` \"x\" \\\\ #é'"
    assert lines[5] == "set -e WAMP_CA"
    for wrong in (("--role", "boss"), ("--shell", "csh")):
        done = sisock("env", "--site", lab, *wrong, cwd=runtime)
        assert (done.returncode, f"{wrong[0]} is {wrong[1]!r}; give one of" in done.stderr) == (2, True)


@pytest.mark.parametrize("words", [("--user", "bob", "env"), ("env", "--user", "bob")])
def test_account_is_named_before_or_after_a_command(sites, runtime, words):
    (lab,) = sites("lab")
    secrets = lab / "secrets.yaml"
    secrets.write_text(
        secrets.read_text().partition("operator:")[0] + "operator: {alice: {secret: one}, bob: {secret: two}}\n"
    )
    shown = sisock(*words, "--site", lab, cwd=runtime).stdout.splitlines()
    assert {"export WAMP_USER=bob", "export WAMP_SECRET=two"} <= set(shown)
    done = sisock("--user", "carol", "nodes", "--site", lab, cwd=runtime)
    assert done.returncode == 2
    assert "has no account 'carol'; it has: server, consumer, alice, bob" in done.stderr
    done = sisock("--user", "bob", "init", "there", cwd=runtime)
    assert (done.returncode, done.stderr) == (2, "sisock: init takes no user; leave --user out\n")


def test_env_is_of_the_site_whatever_the_environment_has(sites, runtime, monkeypatch):
    (lab,) = sites("lab")
    monkeypatch.setenv("WAMP_URI", "ws://elsewhere:1/ws")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    monkeypatch.chdir(lab)
    shown = sisock("env", cwd=lab).stdout
    assert "elsewhere" not in shown
    assert f"export WAMP_SECRET={secret(lab)}\n" in shown


@pytest.mark.parametrize(
    ("router", "url"),
    [
        ("{host: 0.0.0.0, plain: true, port: 9000}", "ws://127.0.0.1:9000/ws"),
        ("{host: '::1'}", "ws://[::1]:8080/ws"),
        ("{url: 'wss://lab:8080/ws'}", "wss://lab:8080/ws"),
    ],
)
def test_address_is_one_that_any_client_can_use(runtime, router, url):
    Path("site.yaml").write_text(f"router: {router}\n")
    assert load_site(".").url == url


def test_no_router_that_answers_is_told_with_the_command_that_starts_it(sites):
    (lab,) = sites("my lab")
    with pytest.raises(Exception, match=rf"no router answers at unix:.*; `sisock up '{lab}/site.yaml'` starts it"):
        BlockingConsumer(lab, patience_s=0.3).__enter__()


def test_router_of_a_site_that_is_starting_is_waited_for_and_one_that_runs_for_long_is_looked_into(sites, monkeypatch):
    (lab,) = sites("lab")
    record_running(lab / "site.yaml")
    starting = (
        rf"the site in {lab} has been starting for \d s, and its router does not answer yet; try again in a moment"
    )
    with pytest.raises(NoRouter, match=rf"no router answers at unix:.*; {starting}$"):
        BlockingConsumer(lab, patience_s=0.3).__enter__()
    (running,) = running_sites()
    runs = f"process {os.getpid()} runs the site in {lab}, see its log"
    assert [replace(running, since=since).router_hint for since in (1.0, None)] == [runs, runs]


def test_site_that_does_not_exist_is_told_with_those_that_run(sites, runtime):
    lab, _ = sites("lab", "hall")
    with pytest.raises(SiteError, match=f"^{runtime}/lab: there is no such site file; run `sisock init` to make one$"):
        BlockingConsumer("lab")
    record_running(lab / "site.yaml")
    for name in ("lab", "labb", "lab/site.yaml"):
        meant = f"^{runtime}/{name}: there is no such site file; did you mean {lab}, which is running\\?$"
        with pytest.raises(SiteError, match=meant):
            BlockingConsumer(name)
    with pytest.raises(SiteError, match=f"; give the path of a folder or a file; running: {lab}$"):
        load_site("elsewhere")


def test_node_without_a_site_names_each_that_runs_on_a_line_of_its_own(sites, runtime, tmp_path):
    for folder in (*sites("lab", "hall"), tmp_path / "x\nroot: pwned"):
        record_running(folder / "site.yaml")
    with pytest.raises(SystemExit) as ended:
        serve("dice")
    first, *listed = ended.value.code.split("\n")
    assert first == (
        "sisock: which site? several are running; name one: --site or SISOCK_SITE, "
        'in Python Consumer("FOLDER") or serve(…, site="FOLDER"):'
    )
    starts = [f"sisock:   {tmp_path}/{name}/site.yaml (since " for name in ("lab", "hall", r"x\nroot: pwned")]
    assert [line[: len(start)] for line, start in zip(listed, starts, strict=True)] == starts


@pytest.mark.parametrize("kind", [BlockingConsumer, Consumer])
def test_consumer_is_an_operator_where_it_is_made_as_one(sites, kind):
    (lab,) = sites("lab")
    for role, user in {"consumer": "consumer", "operator": "operator"}.items():
        access = kind(lab, role).access
        assert (access.user, access.secret) == (user, secret(lab, role))
    assert kind(lab).access.user == "consumer"
    with pytest.raises(BadRequest, match=r"role is 'server'; give one of consumer, operator"):
        kind(lab, role="server")
    with pytest.raises(BadRequest, match=r"role is 'operator', but an Access names its account"):
        kind(find_access(lab), role="operator")


def test_user_of_the_environment_is_named_where_it_decides_who_logs_in(sites, monkeypatch):
    (lab,) = sites("lab")
    monkeypatch.chdir(lab)
    assert find_access(role="operator").operator_hint == (
        'log in with the account of the operator role: BlockingConsumer(role="operator") in Python, `sisock call`, '
        'or eval "$(sisock env --role operator)" for other programs'
    )
    monkeypatch.setenv("WAMP_USER", "consumer")
    assert find_access().login_hint == (
        f"the user is from WAMP_USER in the environment, and the secret from {lab}/secrets.yaml: unset WAMP_USER to "
        "use the account of the site, or set WAMP_SECRET to that user's secret"
    )
    monkeypatch.setenv("WAMP_SECRET", secret(lab))
    hint = (
        "WAMP_USER in the environment decides who logs in: `sisock env --role operator` prints the operator's "
        "account, or unset WAMP_USER and WAMP_SECRET to use that of the site"
    )
    assert find_access(role="operator").operator_hint == hint
    monkeypatch.setenv("WAMP_URI", "ws://elsewhere:1/ws")
    assert find_access(role="operator").operator_hint == hint


@pytest.fixture
def as_nobody():
    """Run a script in a folder as a user who owns nothing there, and return what it leaves on stderr."""
    if os.getuid():
        pytest.skip("takes root, to become another user")

    def run(folder, script):
        # Imported before, since the packages may be closed to others as well.
        become = f"import os, sisock.consumer; os.chdir({str(folder)!r}); os.setuid(65534)"
        command = [sys.executable, "-c", f"{become}\n{script}"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={}).stderr

    return run


def test_site_that_is_closed_to_this_user_is_told(as_nobody, sites):
    (lab,) = sites("lab")
    lab.chmod(0o700)
    told = as_nobody("/", f"sisock.BlockingConsumer({str(lab)!r})")
    assert re.search(rf"SiteError: {lab}: cannot be read by this user; its folder, or one above it, is closed", told)


def test_secrets_that_are_closed_to_this_user_are_told_with_what_to_do(as_nobody, sites):
    with tempfile.TemporaryDirectory() as folder:
        make_site(Path(folder))
        Path(folder).chmod(0o755)
        told = as_nobody(folder, "sisock.BlockingConsumer()")
        assert re.search(
            r"SiteError: .*/secrets.yaml: cannot be read by this user; .* set WAMP_USER and WAMP_SECRET", told
        )
        # With an account of their own they need no secrets file.
        script = "os.environ |= {'WAMP_USER': 'me', 'WAMP_SECRET': 'mine'}; print(sisock.BlockingConsumer().access)"
        assert as_nobody(folder, script) == ""
