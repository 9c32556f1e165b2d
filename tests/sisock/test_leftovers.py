"""What a killed run of a site leaves behind."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

from sisock.leftovers import Run, end_leftovers
from tests.sisock.test_supervisor import ends, runs

# A supervisor whose child, which hangs, has started another process. The kernel wakes and hangs up what is stopped in a
# group that has lost its parent; this one ignores that.
KILLED = """
import asyncio, sys
from pathlib import Path
from sisock.leftovers import Run
from sisock.child import Process
from sisock.supervisor import Supervisor

CHILD = '''
import os, signal, subprocess, sys
stubborn = "import signal, time; signal.signal(1, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(os.getpid(), child.pid, flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
'''
run = Run(Path(sys.argv[1]))
parts = [Process("one", (sys.executable, "-c", CHILD))]
asyncio.run(Supervisor(parts, lambda name, line: print(line, flush=True), environment=run.environment).run())
"""


def leash_of(pid):
    """Return the process that ends the children of another one."""
    wanted = b"watch\0%d\0" % pid
    (leash,) = [each for each in Path("/proc").glob("[0-9]*/cmdline") if wanted in contents(each)]
    return int(leash.parent.name)


def contents(path):
    """Return the contents of a file of a process, which may have ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_hung_processes_of_a_killed_run_are_recognised_and_nothing_else(tmp_path):
    path = tmp_path / "run"
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as supervisor:
        child, grandchild = map(int, supervisor.stdout.readline().split())
        try:
            assert path.stat().st_mode & 0o077 == 0
            leash = leash_of(supervisor.pid)
            supervisor.kill()
            supervisor.wait()
            assert ends(child)  # by the leash
            assert ends(leash)  # of its own accord, as nothing is left for it to do
            assert runs(grandchild)
            assert end_leftovers(path) == 1
            assert ends(grandchild)
            assert runs(other.pid)
            assert end_leftovers(path) == 0
        finally:
            other.kill()
            other.wait()
            for pid in (child, grandchild):
                if runs(pid):
                    os.kill(pid, signal.SIGKILL)


def test_run_that_ended_in_order_leaves_no_mark(tmp_path):
    run = Run(tmp_path / "run")
    assert run.environment["SISOCK_RUN"] == (tmp_path / "run").read_text()
    run.close()
    assert not (tmp_path / "run").exists()
    assert end_leftovers(tmp_path / "run") == 0


def test_mark_that_was_cut_off_matches_nothing(tmp_path):
    (tmp_path / "run").write_text("")
    assert end_leftovers(tmp_path / "run") == 0


def test_run_begins_on_a_disk_that_takes_nothing(tmp_path, monkeypatch, caplog):
    def full(*_arguments, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fdopen", full)
    run = Run(tmp_path / "run")
    monkeypatch.undo()
    assert run.environment
    assert "No space left on device" in caplog.text
    run.close()
    assert end_leftovers(tmp_path / "run") == 0
