"""The supervisor, with real small processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from sisock.child import Process
from sisock.errors import BadRequest
from sisock.site import load_site
from sisock.supervisor import Supervisor, check_free
from sisock.testing.fixtures import free_ports


def python(script):
    return (sys.executable, "-c", script)


def runs(pid):
    """Whether the process is there and no zombie that its new parent has not collected yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid):
    """Whether the process is gone; one that was just killed may take the kernel a moment."""
    deadline = time.monotonic() + 60.0
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    return not runs(pid)


class Heard(list):
    def __call__(self, name, line):
        self.append((name, line))

    def of(self, name):
        return [line for who, line in self if who == name]


async def until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def supervised(parts, story, watchdog_s=0.0):
    """Run `story(supervisor, heard)` while the parts are kept running, then stop them."""
    heard = Heard()

    async def play():
        supervisor = Supervisor([Process(name, command, watchdog_s) for name, command in parts.items()], heard)
        running = asyncio.create_task(supervisor.run())
        try:
            await story(supervisor, heard)
        finally:
            supervisor.stop()
            await asyncio.wait_for(running, 60.0)

    asyncio.run(play())
    return heard


def test_lines_come_with_the_name_of_who_printed_them():
    script = "import os, time; print('hello', flush=True); os.write(2, b'oh\\nhalf'); time.sleep(60)"

    async def story(supervisor, heard):
        await until(lambda: len(heard.of("one")) == 2)

    heard = supervised({"one": python(script)}, story)
    assert sorted(heard.of("one")) == ["half", "hello", "oh"]  # the last, unfinished line too


def test_line_without_end_is_cut_and_does_not_fill_the_memory():
    async def story(supervisor, heard):
        await until(lambda: sum(map(len, heard.of("one"))) >= 1_000_000)

    heard = supervised({"one": python("print('x' * 1_000_000, flush=True); input()")}, story)
    assert max(map(len, heard.of("one"))) < 20_000


def test_what_dies_is_started_again_and_why_is_said():
    async def story(supervisor, heard):
        await until(lambda: len(heard.of("one")) >= 2)
        assert supervisor.status()["one"]["restarts"] >= 1
        assert supervisor.status()["one"]["last_exit"] == "exit status 3"

    heard = supervised({"one": python("print('up', flush=True); raise SystemExit(3)")}, story)
    assert any(line.startswith("one ended (exit status 3); starting it again in 0.5 s") for line in heard.of(""))
    assert any("in 1 s" in line for line in heard.of("")) or len(heard.of("one")) == 2  # the back-off grows


def test_one_that_dies_does_not_disturb_the_others():
    pids = []

    async def story(supervisor, heard):
        await until(lambda: heard.of("good") and len(heard.of("bad")) >= 2)
        pids.append(supervisor.status()["good"]["pid"])
        assert supervisor.status()["good"]["restarts"] == 0

    parts = {
        "good": python("print('up', flush=True); input()"),
        "bad": python("import os; print(1, flush=True); os.abort()"),
    }
    parts["good"] = python("import time; print('up', flush=True); time.sleep(600)")
    supervised(parts, story)
    assert ends(pids[0])


def test_stubborn_children_and_their_children_are_killed_in_time(monkeypatch):
    monkeypatch.setattr("sisock.child._GRACE", 1.0)
    script = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
    pids = []

    async def story(supervisor, heard):
        await until(lambda: len(heard.of("one")) == 2)
        pids.extend([supervisor.status()["one"]["pid"], *(int(line) for line in heard.of("one") if line != "1")])

    heard = supervised({"one": python(script)}, story)
    assert len(pids) == 2
    assert all(ends(pid) for pid in pids)
    assert "one did not stop within 1 s and is killed" in heard.of("")


def test_what_a_dead_child_leaves_behind_is_killed_before_the_restart():
    script = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
os._exit(1)
"""

    async def story(supervisor, heard):
        await until(lambda: len(heard.of("one")) >= 2)
        assert ends(int(heard.of("one")[0]))

    supervised({"one": python(script)}, story)


def test_supervisor_that_is_killed_takes_its_children_along():
    script = """
import asyncio, sys
from sisock.child import Process
from sisock.supervisor import Supervisor
part = Process("one", (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"))
asyncio.run(Supervisor([part], lambda name, line: print(line, flush=True)).run())
"""
    with subprocess.Popen(python(script), stdout=subprocess.PIPE, text=True) as supervisor:
        child = psutil.Process(int(supervisor.stdout.readline()))
        os.kill(supervisor.pid, signal.SIGKILL)
        child.wait(60.0)


def test_child_that_a_real_time_signal_kills_is_started_again():
    script = "import os, signal; print(1, flush=True); os.kill(os.getpid(), 40)"

    async def story(supervisor, heard):
        await until(lambda: len(heard.of("one")) >= 2)
        assert supervisor.status()["one"]["last_exit"] == "killed by signal 40"

    heard = supervised({"one": python(script)}, story)
    assert "one ended (killed by signal 40); starting it again in 0.5 s" in heard.of("")


def test_module_in_the_current_folder_does_not_pass_for_one_of_pythons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("signal", "ctypes", "os"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong module')")

    async def story(supervisor, heard):
        await until(lambda: heard.of("one"))

    command = (sys.executable, "-P", "-c", "import signal, time; print('up', flush=True); time.sleep(600)")
    assert supervised({"one": command}, story).of("one")[0] == "up"


def test_stop_while_the_last_words_are_awaited_leaves_nothing_behind():
    # A daemon of its own session keeps the pipe open, so that the supervisor waits for more words.
    script = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"], start_new_session=True)
print(child.pid, flush=True)
os._exit(1)
"""

    async def story(supervisor, heard):
        await until(lambda: heard.of("one"))
        pid = supervisor.status()["one"]["pid"]
        await until(lambda: not runs(pid))
        await asyncio.sleep(0.05)  # within the time in which the last words are awaited

    supervised({"one": python(script)}, story)


def test_program_that_cannot_be_started_is_tried_again(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(11, "Resource temporarily unavailable")

    async def story(supervisor, heard):
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", refuse)
            await until(lambda: any("could not be started" in line for line in heard.of("")))
        await until(lambda: heard.of("one"))

    supervised({"one": python("import time; print('up', flush=True); time.sleep(600)")}, story)


def test_second_stop_kills_at_once():
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"

    async def story(supervisor, heard):
        await until(lambda: heard.of("one"))
        supervisor.stop()
        supervisor.stop()

    supervised({"one": python(script)}, story)


LIVELY = """
import os, signal, time
from sisock.process import show_life
print(os.environ["SISOCK_EARLIER_RUNS"], flush=True)
{first}
while True:
    show_life()
    time.sleep(0.02)
"""
STOPPED = "os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.fixture
def quick_looks(monkeypatch):
    monkeypatch.setattr("sisock.child._LOOK", 0.05)


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    "hang",
    [STOPPED, "signal.signal(15, signal.SIG_IGN); " + STOPPED, "time.sleep(600)"],
    ids=["stopped", "stubborn", "blocked"],
)
def test_process_that_hangs_is_restarted_and_learns_why(monkeypatch, hang):
    monkeypatch.setattr("sisock.child._GRACE", 1.0)
    script = LIVELY.format(first=f"show_life(); {hang}")

    async def story(supervisor, heard):
        await until(lambda: len(heard.of("one")) >= 2)
        assert supervisor.status()["one"]["hangs"] >= 1

    heard = supervised({"one": python(script)}, story, watchdog_s=2.0)
    assert json.loads(heard.of("one")[0]) == {"restarts": 0, "hangs": 0, "last_exit": None}
    assert json.loads(heard.of("one")[1]) == {"restarts": 1, "hangs": 1, "last_exit": "hung for 2 s"}
    assert heard.of("")[0] == "one hangs: no sign of life for 2 s; it is restarted"
    assert not any("ended" in line for line in heard.of(""))


@pytest.mark.usefixtures("quick_looks")
def test_process_without_a_watchdog_may_hang():
    async def story(supervisor, heard):
        await until(lambda: heard.of("one"))
        await asyncio.sleep(1.0)  # twenty looks
        assert supervisor.status()["one"]["hangs"] == 0

    supervised({"one": python(LIVELY.format(first=STOPPED))}, story)


@pytest.mark.usefixtures("quick_looks")
def test_process_that_takes_long_to_start_or_is_busy_for_less_than_its_watchdog_is_not_restarted():
    async def story(supervisor, heard):
        await until(lambda: "busy" in heard.of("one"))
        assert supervisor.status()["one"]["restarts"] == 0

    # The first sleep is longer than the watchdog: a history is being read.
    script = LIVELY.format(first="time.sleep(3); show_life(); time.sleep(0.5); show_life(); print('busy', flush=True)")
    supervised({"one": python(script)}, story, watchdog_s=2.0)


def test_nothing_hangs_while_the_supervisor_itself_is_stopped():
    script = """
import asyncio, sys
import sisock.supervisor
from sisock.child import Process
from sisock.supervisor import Supervisor
sisock.child._LOOK = 0.1
part = Process("one", (sys.executable, "-c", sys.argv[1]), 1.0)
asyncio.run(Supervisor([part], lambda name, line: print(name, line, flush=True)).run())
"""
    child = LIVELY.format(first="").replace("show_life()\n", "show_life(); print('alive', flush=True)\n")
    with subprocess.Popen([*python(script), child], stdout=subprocess.PIPE, text=True) as supervisor:
        try:
            while "alive" not in supervisor.stdout.readline():
                pass
            supervisor.send_signal(signal.SIGSTOP)
            time.sleep(3.0)  # three times the watchdog
            supervisor.send_signal(signal.SIGCONT)
            lines = [supervisor.stdout.readline() for _ in range(300)]
        finally:
            supervisor.kill()
    assert all(line.startswith("one alive") for line in lines)


def test_taken_port_is_told_by_number_and_setting(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = free_ports(1)[0]
        (tmp_path / "site.yaml").write_text(f"router: {{port: {other}, rawsocket_port: {port}}}\ngateway: false\n")
        with pytest.raises(BadRequest, match=rf"port {port} is taken .* set router\.rawsocket_port in"):
            check_free(load_site(tmp_path))


def test_port_of_a_process_that_is_ending_is_waited_for(tmp_path):
    import socket

    port, other = free_ports(2)
    (tmp_path / "site.yaml").write_text(f"router: {{port: {other}, rawsocket_port: {port}}}\ngateway: false\n")
    with socket.create_server(("127.0.0.1", port)) as ending:
        given_up = threading.Timer(0.5, ending.close)
        given_up.start()
        check_free(load_site(tmp_path), within_s=30.0)
        given_up.join()


def test_socket_that_was_left_behind_is_removed_but_not_one_that_answers(tmp_path):
    import socket

    port, raw, web = free_ports(3)
    ports = f"router: {{port: {port}, rawsocket_port: {raw}}}\ngateway: {{port: {web}}}"
    (tmp_path / "site.yaml").write_text(ports)
    site = load_site(tmp_path)
    site.socket_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(site.socket_path))
        listening.listen()
        with pytest.raises(BadRequest, match="another router answers"):
            check_free(site)
    check_free(site)
    assert not site.socket_path.exists()


def test_first_part_is_stopped_after_the_others_which_depend_on_it():
    slow = "import signal, time; signal.signal(15, lambda *_: (time.sleep(0.3), print('ends', flush=True), exit()))"
    quick = "import signal, time; signal.signal(15, lambda *_: (print('ends', flush=True), exit()))"
    parts = {
        "router": python(f"{quick}; print('up', flush=True); time.sleep(600)"),
        "node": python(f"{slow}; print('up', flush=True); time.sleep(600)"),
    }

    async def story(supervisor, heard):
        await until(lambda: heard.of("router") and heard.of("node"))

    heard = supervised(parts, story)
    assert [name for name, line in heard if line == "ends"] == ["node", "router"]


def test_first_part_is_stopped_though_another_does_not_stop(monkeypatch):
    monkeypatch.setattr("sisock.child._GRACE", 2.0)
    monkeypatch.setattr("sisock.supervisor._HEAD_START", 0.1)
    parts = {
        "router": python(
            "import signal, time; signal.signal(15, lambda *_: (print('ends', flush=True), exit())); "
            "print('up', flush=True); time.sleep(600)"
        ),
        "node": python(
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
        ),
    }

    async def story(supervisor, heard):
        await until(lambda: heard.of("router") and heard.of("node"))

    heard = supervised(parts, story)
    said = [line for name, line in heard if line == "ends" or "is killed" in line]
    assert said == ["ends", "node did not stop within 2 s and is killed"]
