"""Worker threads."""

import threading

import pytest

from sisock.worker import Worker


def test_worker_runs_until_it_is_stopped_and_can_be_started_again():
    arguments = []

    def run(argument):
        arguments.append(argument)
        worker.stopping.wait()

    worker = Worker("numbers", run)
    assert worker.stop()  # before its start there is nothing to wait for
    for number in (1, 2):
        worker.start(number)
        assert worker.is_alive
        assert worker.stop()
        assert not worker.is_alive
    assert arguments == [1, 2]


def test_thread_has_the_name_of_its_worker():
    names = []
    worker = Worker("poll tl", lambda: names.append(threading.current_thread().name))
    worker.start()
    assert worker.join()
    assert names == ["poll tl"]


def test_error_of_the_code_is_logged_with_its_traceback_and_kept(caplog):
    worker = Worker("failing", lambda: 1 / 0)
    worker.start()
    assert worker.join()
    assert isinstance(worker.error, ZeroDivisionError)
    (record,) = caplog.records
    assert record.getMessage() == "thread failing ended by an error"
    assert record.exc_info is not None


def test_running_worker_is_not_started_twice():
    stopping = threading.Event()
    worker = Worker("single", stopping.wait, stopping=stopping)
    worker.start()
    with pytest.raises(RuntimeError, match="worker single is running already"):
        worker.start()
    assert worker.stop()


def test_stop_interrupts_what_the_worker_waits_for():
    woken = threading.Event()
    worker = Worker("waiting", woken.wait, wake=woken.set)
    worker.start()
    assert worker.stop()


def test_stop_returns_after_its_patience_though_the_code_does_not_return():
    released = threading.Event()
    worker = Worker("stuck", released.wait, patience_s=0.0)
    worker.start()
    assert not worker.stop()
    released.set()
    assert worker.join()


def test_worker_that_stops_itself_does_not_wait_for_itself():
    stopped = []
    worker = Worker("own", lambda: stopped.append(worker.stop()))
    worker.start()
    assert worker.join()
    assert stopped == [False]


def test_workers_that_share_an_event_are_stopped_together():
    stopping = threading.Event()
    workers = [Worker(f"each {i}", stopping.wait, stopping=stopping) for i in range(2)]
    for worker in workers:
        worker.start()
    assert workers[0].stop()
    assert workers[1].join()
