"""What commands print of a node whose names, units and texts are hostile: no control characters, and no markup."""

import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sisock import Field, Timeline
from sisock.node import Node
from sisock.procedure import Command
from sisock.testing import ManualSource
from tests.commands import sisock

HOSTILE = "a\x1b[2J\x07b\r\nc\u202e[bold][/]d"
SHOWN = r"a\x1b[2J\x07b\r\nc\u202e[bold][/]d"
NAME = f"x{HOSTILE}"


@pytest.fixture
def node(sisock_serve, unique):
    """A node with hostile names, and its source."""
    source = ManualSource(
        Timeline(f"tl{HOSTILE}", (Field(NAME, units=HOSTILE, description=HOSTILE), Field("text", "string")), 1.0)
    )
    source.procedures = [Command("say", HOSTILE, None, None, lambda: {HOSTILE: HOSTILE})]
    source.counters.add(HOSTILE)
    sisock_serve(Node(f"{unique}[bold]", f"under test {HOSTILE}", [source]))

    def emit():
        now = time.time()
        source.emit(f"tl{HOSTILE}", [now - 0.2, now - 0.1], {NAME: [1.0, 2.0], "text": [HOSTILE, HOSTILE]})

    emit()
    return f"{unique}[bold]", emit


def run(site, *args):
    """Run a command with a pipe."""
    done = sisock(*args, "--site", site, cwd=Path())
    return done.stdout + done.stderr


def run_on_a_terminal(site, *args):
    """Run a command on a terminal that has no control sequences, so that each that comes is not ours."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "1000"}
    command = [sys.executable, "-m", "sisock", *args, "--site", str(site)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the last of the other side has closed it
            assert process.wait(60.0) is not None
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


COMMANDS = [
    (("nodes",), f"under test {SHOWN}"),
    (("fields", "NODE"), f"{SHOWN}"),
    (("get", "NODE", "text"), SHOWN),
    (("get", "NODE", NAME), f"x{SHOWN} [{SHOWN}]"),
    (("get", "NODE", NAME, "text", "--csv"), f"x{SHOWN},text"),
    (("get", "NODE", "text", "--csv"), f",{SHOWN}\n"),
    (("get", "NODE", NAME, "--plot"), f"x{SHOWN} [{SHOWN}]"),
    (("get", "NODE", "text", "--plot"), "text: text cannot be drawn"),
    (("get", "NODE", NAME, "--start", "1", "--end", "2"), f"no samples of x{SHOWN}"),
    (("get", "NODE", "x\x1bno"), r"no field 'x\x1bno'"),
    (("status", "NODE"), f"tl{SHOWN}"),
    (("procedures", "NODE"), f"say: {SHOWN}"),
    (("call", "NODE", "say"), f"{SHOWN}: {SHOWN}"),
    (("watch", "NODE", "text", "--count", "1"), SHOWN),
]
# These print tables, whose cells a terminal folds.
TABLES = ("nodes", "fields", "get", "watch")


@pytest.mark.parametrize(
    ("how", "args", "shown"),
    [
        pytest.param(how, args, shown, id=f"{how.__name__}-{n}-{args[0]}")
        for n, (args, shown) in enumerate(COMMANDS)
        for how in ([run_on_a_terminal, run] if args[0] in TABLES else [run_on_a_terminal])
    ],
)
def test_nothing_of_a_node_is_obeyed_by_the_terminal(sisock_router, node, how, args, shown):
    name, emit = node
    site = sisock_router.site.path
    ended = threading.Event()
    emitting = threading.Thread(target=lambda: [emit() for _ in iter(lambda: ended.wait(0.2), True)])
    emitting.start()
    try:
        printed = how(site, *(name if word == "NODE" else word for word in args))
    finally:
        ended.set()
        emitting.join()
    if how is run or args[0] not in TABLES:
        assert shown in printed
    assert printed.strip()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", printed), repr(printed)
    assert "Traceback" not in printed
