"""The examples of work run as they stand: a motor of 40 lines, and a client that knows only WAMP."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from sisock.consumer import BlockingConsumer
from tests.site.gateway import wait

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def environment_of(sisock_router):
    """The environment that `sisock env` sets, by role."""

    def of(role):
        access = sisock_router.access(role)
        return {
            **os.environ,
            "WAMP_URI": sisock_router.site.url,
            "WAMP_USER": access.user,
            "WAMP_SECRET": access.secret,
        }

    return of


@contextmanager
def running(name, environment):
    """Run an example until it is stopped."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / name], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.communicate(timeout=60.0)[1]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def motor(sisock_router, environment_of):
    """The motor of the examples, on the router that all tests share."""
    with running("motor.py", environment_of("server")), BlockingConsumer(sisock_router.access()) as consumer:
        wait(lambda: "motor" in [info.name for info in consumer.nodes()])
        yield consumer


def test_motor_has_at_most_forty_lines():
    assert len((EXAMPLES / "motor.py").read_text().splitlines()) <= 40


def test_motor_in_the_docs_is_the_example():
    snippet = (EXAMPLES.parent / "docs" / "work.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert snippet == (EXAMPLES / "motor.py").read_text()


def test_plain_session_calls_everything_and_cancels_a_run(motor, environment_of):
    command = [sys.executable, EXAMPLES / "bare_work.py"]
    done = subprocess.run(
        command, env=environment_of("operator"), capture_output=True, text=True, timeout=120.0, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines()]  # without the times of Twisted's log
    kinds = ["command move", "command home", "command set_speed", "operation scan"]
    assert [line.split(" - ")[0] for line in lines[:4]] == kinds
    assert lines[4] == "refused: set_speed: speed: Input should be greater than 0"
    changes = lines[5 : lines.index("the scan is done")]
    assert changes[-1] == "done 1.0 at 2 mm None"
    assert sum("'signal'" in change for change in changes) == 3
    assert "the call is cancelled, and its run ends" in lines
    runs = [line.split(maxsplit=4)[2:] for line in lines if line.startswith("run ")]
    assert runs == [["scan", "cancelled", "cancelled by operator"], ["scan", "done", "None"]]
    assert "sisock" not in re.findall(r"^(?:from|import) (\w+)", (EXAMPLES / "bare_work.py").read_text(), re.M)


def test_moving_warms_the_motor(motor, sisock_router):
    def temperature():
        return motor.data("motor", ["temperature"], start=-60).timelines["motor"].columns["temperature"].max()

    with BlockingConsumer(sisock_router.access("operator")) as operator:
        operator.call("motor", "move", position=1000.0)
    wait(lambda: temperature() > 25.0)
