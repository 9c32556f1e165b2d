"""A child: a program or a function in a process of its own, with real small processes."""

import math
import os
import pickle
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from sisock.child import Child, Limits, RestartPolicy
from sisock.child.frames import MAX_FRAME, Decoder, Message, encode
from sisock.errors import BadData, BadRequest, ChildFailed, SisockError, TimedOut, TooLarge
from sisock.times import wait_until
from tests.sisock.test_supervisor import ends, python, runs

FUNCTIONS = """
import os, signal, subprocess, sys, threading, time
from sisock.child.called import parent
from sisock.errors import NoSuchField

def greet(name, *, again=1):
    print("greeting", name)
    return f"hello {name}" * again

class Private(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")

def refuse():
    raise NoSuchField("no field 'x'", field="x")

def refuse_privately():
    raise Private(7, "no")

def die(number):
    print("I see", number)
    os.kill(os.getpid(), number)

def leave(status):
    os._exit(status)

def count(n):
    for i in range(n):
        parent().send("progress", i / n)
    return n

def until_cancelled():
    parent().send("up", os.getpid())
    parent().cancelled.wait()
    return "cancelled"

def allocate(bytes):
    return len(bytearray(bytes))

def compute():
    while True: pass

def lock():
    return threading.Lock()

def linger():
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"

def reserved():
    parent().send("result", 1)

def spoil():
    print("spoilt")
    parent()._channel.sendall(b"\\xff" * 8)
    time.sleep(600)

def with_another():
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    parent().send("pids", (os.getpid(), other.pid))
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def functions(tmp_path, monkeypatch):
    """Make the module `far_away` importable, in a folder that only our own path has."""
    (tmp_path / "far_away.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def begin():
    """Start children, and leave none behind."""
    begun = []

    def start(*arguments, **settings):
        child = Child(*arguments, **settings)
        begun.append(child)
        child.start()
        return child

    yield start
    for child in begun:
        child.kill()
        assert child.wait(60.0)


def test_program_ends_and_its_lines_are_kept(begin):
    lines = []
    child = begin(python("import sys; print('one'); print('two', file=sys.stderr)"), on_line=lines.append)
    assert child.result(60.0) == 0
    assert lines == child.last_lines == ["one", "two"]
    assert child.status()["pid"] is None
    assert child.status()["last_exit"] == "exit status 0"


def test_program_that_fails_is_an_error_with_its_last_lines(begin):
    child = begin(python("for i in range(100): print('line', i)\nraise SystemExit(3)"), name="counter")
    with pytest.raises(ChildFailed, match=r"^counter ended \(exit status 3\); its last lines:\n  line 80\n") as caught:
        child.result(60.0)
    assert caught.value.message.endswith("\n  line 99")
    assert len(caught.value.details["last_lines"]) == 20


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"target": ["/no/such/program"]},
            r"program ended \(exit status 127\); its last lines:\n  /no/such/program: no such",
        ),
        (
            {"target": ["/etc/passwd"]},
            r"passwd ended \(exit status 126\); .*\n  /etc/passwd cannot be started: Permission",
        ),
        ({"target": ["true"], "cwd": "/no/such/folder"}, "true could not be started: No such file or directory"),
        (
            {"target": ["true"], "limits": Limits(open_files=2**40)},
            "true ended .*\n  the limit open_files of 1099511627776",
        ),
    ],
)
def test_program_that_cannot_be_started_is_an_error(begin, settings, text):
    with pytest.raises(ChildFailed, match=text):
        begin(**settings).result(60.0)


def test_program_has_its_folder_environment_and_limits(begin, tmp_path):
    script = """
import os, resource, signal
print(os.getcwd(), os.environ["COLOUR"], os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, os.getpgid(0) == os.getpid(), len(os.listdir("/proc/self/fd")))
"""
    niceness = os.nice(0)
    limits = Limits(niceness=1, open_files=99)
    child = begin(python(script), cwd=tmp_path, environment={"COLOUR": "red"}, limits=limits)
    assert child.result(60.0) == 0
    assert child.last_lines == [f"{tmp_path} red {min(19, niceness + 1)} 99", "True True 4"]


SCHEDULING = """
import os, pathlib
path = pathlib.Path("/proc/self/autogroup")
group = path.read_text().split()[-1] if path.exists() else "none"
print(os.sched_getscheduler(0) == os.SCHED_IDLE, group)
"""


@pytest.mark.parametrize(
    ("limits", "is_idle", "niceness"), [({"niceness": 7}, False, "7"), ({"background": True}, True, "19")]
)
def test_low_priority_holds_also_where_the_kernel_shares_processors_between_sessions(begin, limits, is_idle, niceness):
    child = begin(python(SCHEDULING), limits=Limits(**limits))
    assert child.result(60.0) == 0
    assert child.last_lines == [f"{is_idle} {niceness if Path('/proc/self/autogroup').exists() else 'none'}"]


def test_program_is_ended_by_a_closed_pipe_as_by_a_shell(begin):
    assert begin(["bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}"]).result(60.0) == 0
    child = begin(["bash", "-c", "yes 2>/dev/null | head -1; echo ${PIPESTATUS[0]}"])
    child.wait(60.0)
    assert child.last_lines == ["y", str(128 + signal.SIGPIPE)]


def test_function_returns_what_it_would_return_here(begin):
    child = begin("far_away:greet", ["you"])
    assert child.result(60.0) == "hello you"
    assert child.last_lines == ["greeting you"]
    assert begin("far_away:greet", {"name": "me", "again": 2}).result(60.0) == "hello mehello me"
    assert begin(math.sqrt, [4.0]).result(60.0) == 2.0


def test_error_of_a_function_is_raised_here_with_its_traceback_as_cause(begin):
    with pytest.raises(SisockError, match="no field 'x'") as caught:
        begin("far_away:refuse").result(60.0)
    assert caught.value.name == "no_such_field"
    assert caught.value.details == {"field": "x"}
    assert "far_away.py" in str(caught.value.__cause__)
    assert "in refuse" in str(caught.value.__cause__)


def test_error_that_cannot_be_sent_is_raised_by_its_text(begin):
    with pytest.raises(ChildFailed, match="far_away:refuse_privately raised Private: 7: no") as caught:
        begin("far_away:refuse_privately").result(60.0)
    assert "in refuse_privately" in caught.value.details["traceback"]


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("die", [signal.SIGSEGV], r"ended \(killed by SIGSEGV\); its last lines:\n  I see 11"),
        ("die", [signal.SIGKILL], r"ended \(killed by SIGKILL: by a person or a program, or by the kernel because"),
        ("leave", [0], r"ended \(exit status 0 without a result\)"),
        ("spoil", [], "was killed: not a message: a frame of 4294967295 bytes; its last lines:\n  spoilt"),
    ],
)
def test_function_that_dies_is_an_error_with_the_reason(begin, name, arguments, text):
    with pytest.raises(ChildFailed, match=f"^far_away:{name} {text}"):
        begin(f"far_away:{name}", arguments).result(60.0)


def test_function_that_needs_more_memory_than_its_limit_is_an_error_that_names_it(begin):
    limits = Limits(memory=200_000_000)
    assert begin("far_away:allocate", [1000], limits=limits).result(60.0) == 1000
    with pytest.raises(ChildFailed, match="far_away:allocate needed more memory than its limit of 200000000 bytes"):
        begin("far_away:allocate", [400_000_000], limits=limits).result(60.0)


def test_function_that_needs_more_cpu_time_than_its_limit_is_an_error_that_names_it(begin):
    with pytest.raises(ChildFailed, match="killed by SIGXCPU: more than its limit of 1 s of CPU time"):
        begin("far_away:compute", limits=Limits(cpu_s=1)).result(100.0)


def test_messages_come_in_order_and_all_of_them(begin):
    messages = []
    assert begin("far_away:count", [5000], on_message=messages.append).result(60.0) == 5000
    assert messages == [("progress", i / 5000) for i in range(5000)]


def test_large_arguments_and_results_pass(begin):
    data = os.urandom(5_000_000)
    assert begin("builtins:bytes", [data]).result(60.0) == data


def test_function_is_asked_to_end_and_returns(begin):
    up = threading.Event()
    child = begin("far_away:until_cancelled", on_message=lambda message: up.set())
    assert up.wait(60.0)
    child.cancel()
    assert child.result(60.0) == "cancelled"


def test_cancellation_that_comes_before_the_call_is_not_lost():
    child = Child("far_away:until_cancelled")
    child.cancel()
    child.start()
    assert child.result(60.0) == "cancelled"


def test_child_is_started_once(begin):
    child = begin(python("pass"), name="one")
    with pytest.raises(RuntimeError, match="one was started before; make another Child"):
        child.start()


def test_function_whose_threads_go_on_is_killed_after_its_result(begin):
    reported = []
    assert begin("far_away:linger", grace_s=0.2, report=reported.append).result(60.0) == "done"
    assert reported == ["far_away:linger did not stop within 0.2 s and is killed"]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("far_away:lock", "the result, of type lock, cannot be sent to another process"),
        ("far_away:reserved", "messages of kind 'result' begin or end"),
        ("no_such_module:run", "no_such_module of no_such_module:run cannot be imported: No module named"),
        ("far_away:nothing", "far_away has no nothing"),
        ("sys:path", "sys:path is not a function, but list"),
    ],
)
def test_function_that_another_process_cannot_run_is_an_error(begin, function, text):
    with pytest.raises(BadRequest, match=text):
        begin(function).result(60.0)


@pytest.mark.parametrize(
    ("target", "arguments", "text"),
    [
        ("far_away", (), "'far_away' is not a function's name; write package.module:function"),
        (lambda: 1, (), "is not what another process finds by that name; define the function at the top"),
        (math.sqrt, [threading.Lock()], "the arguments of math:sqrt cannot be sent to another process"),
        ([], (), "the command is empty; give a program and its arguments"),
        (["true"], [1], r"\['true'\] has its arguments in its list; leave out \[1\]"),
    ],
)
def test_child_that_cannot_be_is_refused_at_once(target, arguments, text):
    with pytest.raises(BadRequest, match=text):
        Child(target, arguments)


def test_function_of_the_program_that_is_run_is_refused():
    script = "from sisock.child import Child\ndef work(): pass\nChild(work)"
    done = subprocess.run(python(script), capture_output=True, text=True, check=False)
    assert (
        "work is in the program that is run, which another process cannot import; move it into a module" in done.stderr
    )


@pytest.mark.parametrize("limits", [{"memory": 0}, {"cpu_s": 1.5}, {"niceness": 20}, {"open_files": True}])
def test_limits_that_are_none_are_refused(limits):
    ((name, value),) = limits.items()
    with pytest.raises(BadRequest, match=f"the limit {name} is {value!r}; give a whole number from"):
        Limits(**limits)
    with pytest.raises(BadRequest, match="background is 1; give True or False"):
        Limits(background=1)


def test_child_that_has_not_ended_in_time_is_an_error_and_lives_on(begin):
    child = begin(python("import time; time.sleep(600)"))
    with pytest.raises(TimedOut, match="has not ended within 0.01 s"):
        child.result(0.01)
    assert not child.ended.done()


def test_child_that_overruns_its_deadline_is_stopped(begin):
    reported = []
    child = begin(
        python("import time; print('up'); time.sleep(600)"), name="one", deadline_s=2.0, report=reported.append
    )
    with pytest.raises(ChildFailed, match=r"^one did not end within its deadline of 2 s; its last lines:\n  up$"):
        child.result(60.0)
    assert reported == ["one has not ended within its deadline of 2 s; it is stopped"]


def test_child_that_hangs_is_stopped_where_it_is_not_to_be_restarted(begin, monkeypatch):
    monkeypatch.setattr("sisock.child._LOOK", 0.05)
    reported = []
    script = "from sisock.process import show_life; show_life(); import time; time.sleep(600)"
    child = begin(python(script), name="one", watchdog_s=0.2, report=reported.append)
    with pytest.raises(ChildFailed, match="^one hung for 0.2 s"):
        child.result(60.0)
    assert reported == ["one hangs: no sign of life for 0.2 s; it is stopped"]


def test_stopped_child_is_an_error_and_nothing_of_it_is_left(begin):
    pids = []
    child = begin("far_away:with_another", on_message=lambda message: pids.extend(message.value))
    assert wait_until(lambda: pids, 60.0)
    child.stop()
    assert child.ended.done()
    assert all(ends(pid) for pid in pids)
    with pytest.raises(ChildFailed, match="far_away:with_another was stopped"):
        child.result()


def test_child_that_is_stopped_before_its_start_never_runs():
    child = Child(python("print('up')"))
    child.stop()
    child.start()
    assert child.wait(60.0)
    assert child.last_lines == []


def test_function_is_started_again_until_it_returns(begin, tmp_path):
    (tmp_path / "third_time.py").write_text("""
def run(path):
    with open(path, "a+") as file:
        file.write("x")
        file.seek(0)
        times = len(file.read())
    if times < 3:
        raise ValueError(times)
    return times
""")
    reported = []
    policy = RestartPolicy(shortest_s=0.01, longest_s=0.02)
    child = begin("third_time:run", [str(tmp_path / "times")], restart=policy, report=reported.append)
    assert child.result(60.0) == 3
    assert child.status()["restarts"] == 2
    assert reported == [f"third_time:run ended (exit status 1); starting it again in {s:g} s" for s in (0.01, 0.02)]


def test_error_of_a_listener_stops_the_child_and_is_raised(begin):
    def refuse(line):
        raise ZeroDivisionError(line)

    child = begin(python("import os, time; print(os.getpid()); time.sleep(600)"), on_line=refuse)
    with pytest.raises(ZeroDivisionError) as caught:
        child.result(60.0)
    assert not runs(int(str(caught.value)))


def test_child_outlives_the_threads_that_started_it_and_an_earlier_one(begin):
    script = "import time\nwhile True: print(time.monotonic(), flush=True); time.sleep(0.01)"
    children = []
    thread = threading.Thread(target=lambda: children.extend(begin(python(script)) for _ in range(2)))
    thread.start()
    thread.join()
    earlier, child = children
    assert wait_until(lambda: earlier.last_lines and child.last_lines, 60.0)
    earlier.stop()
    now = time.monotonic()
    assert wait_until(lambda: float(child.last_lines[-1]) > now, 60.0)


PARENT = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from sisock.child import Child
program = [sys.executable, "-c", "import os, signal, time; signal.signal(1, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(600)"]
pids = []
Child("far_away:with_another", on_message=lambda message: pids.extend(message.value)).start()
Child(program, on_line=lambda line: pids.append(int(line))).start()
while len(pids) < 3: time.sleep(0.01)
{more}
print(*pids, flush=True)
time.sleep(600)
"""
# The process that ends the groups is stopped or killed by somebody who does not know it, and another child is started.
AGAIN = """
import psutil
for process in psutil.Process().children():
    if "watch" in process.cmdline():
        process.kill()
        process.wait()
Child(program, on_line=lambda line: pids.append(int(line))).start()
while len(pids) < 4: time.sleep(0.01)
"""
# A process that was forked off holds all pipes of the parent open.
FORKED = """
import os
fork = os.fork()
if not fork:
    time.sleep(600)
pids.append(fork)
"""


@pytest.mark.parametrize(("more", "spared"), [("", 0), (AGAIN, 0), (FORKED, 1)], ids=["killed", "new leash", "forked"])
def test_parent_that_is_killed_takes_along_all_that_its_children_have_started(tmp_path, more, spared):
    script = PARENT.replace("{more}", more)
    with subprocess.Popen([*python(script), str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        helpers = [process.pid for process in psutil.Process(parent.pid).children() if "watch" in process.cmdline()]
        assert len(pids) >= 3
        assert len(helpers) == 1
        assert all(runs(pid) for pid in pids)
        parent.kill()
        parent.wait()
        try:
            assert all(ends(pid) for pid in pids[: len(pids) - spared])
            assert all(runs(pid) for pid in pids[len(pids) - spared :])
        finally:
            for pid in pids:
                if runs(pid):
                    os.kill(pid, signal.SIGKILL)
        assert all(ends(pid) for pid in helpers)


def test_no_process_is_kept_when_the_last_child_has_ended(begin):
    begin(python("pass")).result(60.0)
    assert not [process for process in psutil.Process().children() if "watch" in process.cmdline()]


def test_frames_may_be_cut_anywhere():
    messages = [Message("update", {"a": [1, 2.5, None]}), Message("progress", 0.5), Message("empty", None)]
    stream = b"".join(map(encode, messages))
    for cut in range(len(stream)):
        decoder = Decoder()
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == messages


@pytest.mark.parametrize("stream", [b"\0\0\0\3abc", b"\xff\xff\xff\xff", b"\0\0\0\5" + pickle.dumps(1, 2)[:5]])
def test_bytes_that_are_not_frames_are_refused(stream):
    with pytest.raises(BadData, match="a message"):
        Decoder().feed(stream)


def test_message_that_is_too_large_is_refused_with_what_to_do():
    with pytest.raises(TooLarge, match="the update takes .* at most: write it to a file, and send the path"):
        encode(Message("update", bytes(MAX_FRAME)))
