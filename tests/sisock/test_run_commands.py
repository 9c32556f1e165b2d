"""`sisock run`, `operations`, `call` and `procedures`: what they print, on a terminal and without one, and their exit status."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from pydantic import BaseModel, Field

from sisock.procedure import Operation
from sisock.times import wait_until
from tests.commands import sisock
from tests.sisock.test_run_handles import stage, states  # noqa: F401 - a fixture


class Window(BaseModel):
    start: float
    stop: float = Field(5.0, description="where it ends")


@pytest.fixture
def environment(sisock_stepped_site, stage):  # noqa: F811
    """The variables of an operator, and a node with an operation that takes arguments."""
    stage.node.work.offer(
        Operation("sweep", "Sweep.", Window, None, lambda window: {"width": window.stop - window.start})
    )
    access = sisock_stepped_site.consumer("operator").access
    given = {"WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret}
    return {**os.environ, **given, "REALM": access.realm, "BASE_URI": access.base_uri, "TERM": "dumb"}


@pytest.fixture
def do(environment, tmp_path):
    return lambda *args: sisock(*args, cwd=tmp_path, env=environment)


def newest(stage):  # noqa: F811
    return stage.node.work.operations.list()[0]


def test_procedures_are_listed_with_kinds_and_arguments(do):
    lines = do("procedures", "stage").stdout.splitlines()
    assert "query position: Return the position." in lines
    assert "command move: Move at once." in lines
    assert lines[-3:] == [
        "operation sweep: Sweep.",
        "  start (number, required)",
        "  stop (number, default 5.0): where it ends",
    ]


def test_run_prints_its_result_and_updates(do, stage):  # noqa: F811
    done = do("run", "stage", "sweep", "start=2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "width: 3.0\n", "")
    stage.steps.release(4)
    done = do("run", "stage", "steps", "--updates")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*(f'{{"step": {n}}}' for n in range(4)), "steps: 4"]
    stage.steps.release(4)
    *changes, run = map(json.loads, do("run", "stage", "steps", "--updates", "--json").stdout.splitlines())
    assert [each["seq"] for each in changes] == list(range(1, len(changes) + 1))
    assert (run["state"], run["result"]) == ("done", {"steps": 4})
    assert do("call", "stage", "sweep", "start=2", "--json").stdout == '{"width": 3.0}\n'
    assert do("call", "stage", "position").stdout == "0.0\n"
    assert do("call", "stage", "move", "to=1").stdout == "position: 1.0\n"


def test_run_that_fails_or_is_cancelled_ends_with_status_1(do, stage):  # noqa: F811
    for args in (("run", "stage", "explode"), ("call", "stage", "explode")):
        done = do(*args)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("sisock: explode: ValueError: it smokes (run ")
    done = do("run", "stage", "explode", "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "failed")


def test_run_is_detached_listed_cancelled_and_attached_to(do, stage):  # noqa: F811
    number = do("run", "stage", "steps", "--detach").stdout.strip()
    assert number == newest(stage)["id"]
    (listed,) = json.loads(do("operations", "stage", "--active", "--json").stdout)
    assert (listed["id"], listed["caller"]["authid"]) == (number, "operator")
    head, row = (line.split("\t") for line in do("operations", "stage").stdout.splitlines())
    assert (head[:3], row[0], row[1], row[4]) == (["run", "operation", "state"], number, "steps", "operator")
    assert do("operations", "stage", "--cancel", number).stdout.startswith(f"run {number} of steps: cancel")
    done = do("run", "stage", "--attach", number)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"sisock: steps: cancelled by operator (run {number} of node 'stage')\n"
    assert do("operations", "stage", "--active").stderr == "node stage has no active runs\n"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("run", "stage", "move", "to=1"), "'move' of node 'stage' is a command; call it by `sisock call stage move`"),
        (("run", "stage", "scam"), "no operation 'scam'; did you mean scan"),
        (("run", "stage", "sweep"), "sweep: start: is missing"),
        (("run", "stage", "sweep", "2"), "'2' is not an argument; write name=value"),
        (("run", "stgae", "sweep"), "did you mean stage?"),
        (("run", "stage"), "give an operation, as `sisock procedures stage` lists it"),
        (("run", "stage", "scan", "--attach", "1"), "give an operation"),
        (("run", "stage", "--attach", "1"), "knows no run '1'"),
        (("call", "stage", "mvoe"), "no command 'mvoe'; did you mean move?"),
        (("operations", "stage", "--hard"), "--hard ends the run that --cancel names"),
        (("operations", "stage", "--cancel", "1"), "no run '1'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_errors_have_hints_and_status_2(do, stage, args, error):  # noqa: F811
    done = do(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert states(stage) == []


class Terminal:
    """A command on a terminal."""

    def __init__(self, *args, env):
        self.screen, theirs = pty.openpty()
        os.set_blocking(self.screen, False)
        command = [sys.executable, "-m", "sisock", *args]
        restored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": "xterm", "COLUMNS": "300"},
            **restored,
        )
        os.close(theirs)
        self.raw = ""

    def shows(self, text):
        """Whether the terminal has shown a text, in a minute."""
        return wait_until(lambda: text in self._read(), 60.0, every_s=0.05)

    def _read(self):
        try:
            while piece := os.read(self.screen, 65536):
                self.raw += piece.decode()
        except (BlockingIOError, OSError):
            pass
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def end(self):
        """Return the exit status."""
        try:
            return self.process.wait(60.0)
        finally:
            self._read()
            self.process.kill()
            os.close(self.screen)


def test_terminal_shows_a_bar_and_ctrl_c_asks_the_run_to_end_once(environment, stage):  # noqa: F811
    terminal = Terminal("run", "stage", "steps", "--updates", env=environment)
    stage.steps.release(3)
    assert terminal.shows('{"step": 2}')
    assert terminal.shows("steps: step 2")
    assert terminal.shows("50%")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.shows("of steps is asked to end; Ctrl-C leaves it")
    assert terminal.shows("sisock: steps: cancelled by operator")
    assert terminal.end() == 1
    assert states(stage) == ["cancelled"]


def test_second_ctrl_c_leaves_the_run_and_says_what_can_be_done(environment, stage):  # noqa: F811
    terminal = Terminal("run", "stage", "stuck", env=environment)
    assert wait_until(lambda: states(stage) == ["running"], 60.0)
    number = newest(stage)["id"]
    assert terminal.shows("stuck")
    terminal.process.send_signal(signal.SIGINT)
    assert wait_until(lambda: states(stage) == ["cancelling"], 60.0)
    assert terminal.shows("stuck cancelling")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.shows(f"`sisock run stage --attach {number}` follows it")
    assert terminal.shows(f"`sisock operations stage --cancel {number}` ends it")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.raw
    assert states(stage) == ["cancelling"]
