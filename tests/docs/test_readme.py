"""The snippets of the README run as they stand, beside the demo."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.S)


def commands(block):
    """Yield the commands of a console session, each with the lines that it shows."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, *shown = part.splitlines()
        yield command, shown


BESIDE_THE_DEMO = [each for block in CONSOLE for each in commands(block) if each[0].startswith(".venv/")]


def words(line):
    """Return the words of a line; numbers that are measured differ from run to run."""
    return re.sub(r"\d+(\.\d+)?", "0", line).split()


def interrupted(process, timeout_s=60.0):
    """Press Ctrl-C, and return what the program has printed."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=timeout_s)[0]


@pytest.mark.parametrize(("command", "shown"), BESIDE_THE_DEMO, ids=[command for command, _ in BESIDE_THE_DEMO])
def test_command_runs_as_it_stands(demo, command, shown):
    if " watch " in command:
        with demo.start(command) as watching:
            first = watching.stdout.readline()
            interrupted(watching)
        assert re.match(r"\S+Z\t(load\.1m|cpu\.total)\t", first)
        return
    done = demo.run(command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
    if shown:
        assert [words(line) for line in done.stdout.splitlines()] == [words(line) for line in shown]


def test_there_is_such_a_session():
    assert len(BESIDE_THE_DEMO) >= 5


def test_site_of_your_own_is_made_and_checked(demo):
    (block,) = [block for block in CONSOLE if "sisock init lab" in block]
    demo.environment["PATH"] = f"{demo.checkout}/.venv/bin:{demo.environment['PATH']}"
    for command, _ in commands(block):
        if command.startswith(("sisock init", "sisock check")):  # what pip installs is tested in clean environments
            done = demo.run(command)
            assert done.returncode == 0, done.stderr


def test_node_is_served_as_it_stands(demo):
    (snippet,) = [snippet for snippet in PYTHON if "serve(" in snippet]
    with demo.start([".venv/bin/python", "-c", snippet]) as dice:
        values, deadline = [], time.monotonic() + 90.0
        while not values and time.monotonic() < deadline and dice.poll() is None:
            done = demo.run(".venv/bin/sisock get dice dice.value --start -10s --json")
            timelines = json.loads(done.stdout or '{"timelines": {}}')["timelines"]
            values = [value for each in timelines.values() for value in each["data"]["dice.value"]]
        printed = interrupted(dice)
    assert values, printed
    assert set(values) <= {1, 2, 3, 4, 5, 6}
    assert dice.returncode == 0, printed


def test_asking_runs_as_it_stands(demo):
    (snippet,) = [snippet for snippet in PYTHON if "BlockingConsumer()" in snippet]
    done = demo.run([".venv/bin/python", "-c", snippet])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "cpu.total [%]" in done.stdout
    assert re.search(r"^\[\d+\.\d+.*\] \[", done.stdout, re.M)  # the batch
