"""Large answers through a real router: in chunks, within the allowance, a few at a time, and kept when they are final."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sisock import DataNodeServer, Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.errors import Busy, TooLarge
from sisock.node import Node
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource
from tests.site.links import called

N = 1_500_000


@pytest.fixture
def large(sisock_serve, unique):
    def serve(n=N, **allowance):
        source = ManualSource(Timeline("tl", [Field("x"), Field("y")], lateness_s=0.0, follows_clock=False))
        settings = AllowanceSettings(**{"values": 10_000_000, "bytes": 200_000_000, **allowance})
        node = Node(unique, None, [source], HistorySettings(keep=1e12), allowance=settings)
        sisock_serve(node)
        t = 1e9 + np.arange(n) * 0.1
        source.emit("tl", t, {"x": np.sin(t), "y": t.astype(np.float32)})
        return unique, t

    return serve


def test_ctrl_c_ends_a_read_at_the_node_as_well_and_the_consumer_can_be_used_on(sisock_router, large):
    node, _ = large()
    heard = []

    def press_ctrl_c(done, total):
        heard.append((done, total))
        if len(heard) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with BlockingConsumer(sisock_router.access()) as consumer:
        # Tests that run in the background ignore it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                consumer.data(node, ["x", "y"], 1.0, 2e9, progress=press_ctrl_c)
        finally:
            signal.signal(signal.SIGINT, before)
        assert len(consumer.data(node, ["x", "y"], 1.0, 2e9)["x"]) == N
    assert heard[-1][0] < 20 * N


def test_large_answer_comes_whole_while_others_are_served(sisock_router, large):
    node, t = large()
    seen, stop = [], threading.Event()

    def ask_status():
        with BlockingConsumer(sisock_router.access(), timeout_s=60.0) as other:
            while not stop.is_set():
                began = time.monotonic()
                other.status(node)
                seen.append(time.monotonic() - began)

    asking = threading.Thread(target=ask_status)
    heard = []
    with BlockingConsumer(sisock_router.access()) as consumer:
        asking.start()
        while not seen:
            time.sleep(0.01)
        before = len(seen)
        data = consumer.data(node, ["x", "y"], 1.0, 2e9, progress=lambda *at: heard.append(at))
        after = len(seen)
    stop.set()
    asking.join()
    np.testing.assert_array_equal(data.t("x"), t)
    np.testing.assert_array_equal(data["x"], np.sin(t))
    assert data["y"].dtype == np.float32
    assert heard[-1] == (20 * N, 20 * N)
    assert len(heard) >= 20 * N / 2**20
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert after - before >= 2


def test_caller_who_did_not_ask_for_progress_gets_one_answer_or_false(sisock_router, large):
    node, t = large(n=200_000)

    def ask(**more):
        question = (f"consumer.{node}.get_data", ["x"], 1.0, 2e9)
        return called(sisock_router.access(), *question, timeout_s=20.0, encoding="packed", **more)

    np.testing.assert_array_equal(np.frombuffer(ask()["data"]["x"]["data"]), np.sin(t))
    chunks = []
    rest = ask(on_progress=chunks.append)
    assert rest["chunks"] == len(chunks) == 4
    assert "x" not in rest["data"]


@pytest.mark.parametrize("allowance", [{"values": 1000}, {"bytes": 7000}])
def test_answer_beyond_the_allowance_is_false_and_counted(sisock_router, large, allowance):
    node, _ = large(n=600, **allowance)
    with BlockingConsumer(sisock_router.access()) as consumer:
        with pytest.raises(TooLarge):
            consumer.data(node, ["x"], 1.0, 2e9)
        assert consumer.status(node)["counters"]["too_large"] == 1
        assert len(consumer.data(node, ["x"], 1.0, 1e9 + 30.0)["x"]) == 300
        assert len(consumer.data(node, ["x"], 1.0, 2e9, max_points=100)["x"]) <= 100


@pytest.mark.parametrize("many", [False, True])
def test_few_large_answers_at_a_time_go_to_one_caller_and_the_rest_is_busy(sisock_router, sisock_serve, unique, many):
    answer = {
        "data": {"x": np.arange(200_000.0)},
        "timeline": {"tl": {"t": np.arange(200_000.0), "finalized_until": 1.0}},
    }

    class Large(DataNodeServer):
        name = unique
        big_reads = 2 if many else 1

        def get_fields_blocking(self, start, end):
            about = {"description": None, "timeline": "tl", "type": "number", "units": None}
            return {"x": about}, {"tl": {"interval": 1.0, "field": ["x"]}}

        def get_data_blocking(self, field, start, end, min_stride=None):
            return answer

    sisock_serve(Large)
    with BlockingConsumer(sisock_router.access()) as consumer, ThreadPoolExecutor(20) as threads:
        consumer.fields(unique)
        requests = [threads.submit(consumer.data, unique, ["x"], 1.0, 2e9 + i) for i in range(20)]
        outcomes = [request.exception(30.0) for request in requests]
        refused = [error for error in outcomes if error is not None]
        assert all(isinstance(error, Busy) for error in refused)
        assert len(outcomes) - len(refused) >= 5
        assert not (many and refused)  # a consumer asks no more at a time than a node lets wait
        assert consumer.status(unique)["counters"]["busy"] == len(refused)
        assert len(consumer.data(unique, ["x"], 1.0, 2e9)["x"]) == 200_000


def test_past_that_is_final_is_asked_for_once(sisock_router, large):
    node, _ = large(n=1000)
    with BlockingConsumer(sisock_router.access()) as consumer:
        first = consumer.data(node, ["x", "y"], 1e9, 1e9 + 50.0)
        asked = consumer.status(node)["counters"]["requests"]
        again = consumer.data(node, ["x", "y"], 1e9, 1e9 + 50.0)
        assert consumer.status(node)["counters"]["requests"] == asked + 1  # the status itself
        np.testing.assert_array_equal(again["x"], first["x"])
        assert repr(again) == repr(first)
        with pytest.raises(ValueError, match="read-only"):
            again["x"][0] = 7.0
        assert consumer.cache_info()["hits"] == 1
        for start, end in ((1e9, 0.0), (1e9, 2e9), (-1.0, 1e9 + 5.0)):  # relative, not final, nothing there
            if start > 0:
                consumer.data(node, ["x"], start, end)
        consumer.data(node, ["x", "nix"], 1e9, 1e9 + 50.0, exact=True)
        assert consumer.cache_info()["answers"] == 1
        assert consumer.cache_info()["bytes"] == 500 * 20
    with BlockingConsumer(sisock_router.access(), cache_bytes=0) as consumer:
        consumer.data(node, ["x"], 1e9, 1e9 + 50.0)
        assert consumer.cache_info()["answers"] == 0


@pytest.mark.long
def test_large_answers_of_all_callers_together_stay_within_the_memory_and_small_ones_pass_by(sisock_router, large):
    """24 MB each, 12 callers at once; before, all of them were read and held together."""
    limit = 30_000_000
    node, _ = large(memory=limit)
    done, failed = [], []

    def ask(i):
        try:
            with BlockingConsumer(sisock_router.access(), timeout_s=120.0, cache_bytes=0) as consumer:
                done.append(len(consumer.data(node, ["x"], 1.0, 2e9 + i)["x"]))
        except Exception as error:
            failed.append(error)

    callers = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    waited = small = 0
    with BlockingConsumer(sisock_router.access(), timeout_s=120.0, cache_bytes=0) as consumer:
        consumer.fields(node)
        for caller in callers:
            caller.start()
        while any(caller.is_alive() for caller in callers):
            before = len(done)
            assert len(consumer.data(node, ["x"], 1e9, 1e9 + 10.0)["x"]) == 100
            small += before < 12
            waited = max(waited, consumer.status(node)["answers"]["waiting"])
        answers = consumer.status(node)["answers"]
    assert failed == []
    assert done == [N] * 12
    assert answers == {"bytes": 0, "peak_bytes": 24_000_000, "max_bytes": limit, "waiting": 0}
    assert waited >= 1
    assert small >= 2
