"""Debian's promtool as a client, and its Prometheus as the judge."""

import json
import math
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from fastapi import FastAPI

from sisock.testing import StepClock
from sisock.testing.fixtures import free_ports
from tests.hub.gateway.serving import served
from tests.hub.gateway.site import FakeConsumer, FakeNode, prometheus_of

T0 = 1_700_000_000.0
# Away from all edges of windows: there Prometheus 2 and 3 differ.
SECONDS = T0 + 0.5 + np.arange(0.0, 7200.0, 15.0)


def site():
    random = np.random.default_rng(7)
    a, b = FakeNode(), FakeNode()
    counter = np.cumsum(random.integers(0, 20, len(SECONDS))).astype(float)
    counter[200:] -= counter[200]
    counter[333:] -= counter[333] - 3
    a.add("rx.bytes", SECONDS, counter, "B", 15.0)
    b.add("rx.bytes", SECONDS, counter * 0.25 + 7, "B", 15.0)
    there = np.ones(len(SECONDS), bool)
    there[100:140] = False
    there[random.random(len(SECONDS)) < 0.2] = False
    a.add("total", SECONDS[there], 1e6 + np.cumsum(random.integers(0, 9, there.sum())), None, 15.0)
    a.add("temperature", SECONDS[there], random.normal(300, 5, there.sum()), "K", 15.0)
    b.add("temperature", SECONDS[::4], random.normal(77, 1e-3, len(SECONDS[::4])), "K", 60.0)
    b.add("odd", SECONDS[::100], [math.inf, 1e-9, -2.5e22, 0.0, -math.inf], None, 1500.0)
    return {"a": a, "b b": b}


@pytest.fixture(scope="module")
def url():
    app = FastAPI()
    app.include_router(prometheus_of(FakeConsumer(site()), clock=StepClock(T0 + 7200.0)), prefix="/prometheus")
    with served(app) as base:
        yield f"{base}/prometheus"


@pytest.fixture
def promtool(program, url):
    """Run `promtool query` against the gateway and return what it prints."""
    tool = program("promtool")

    def run(kind, *arguments, flags=(), fails=False):
        command = [tool, "query", kind, *flags, url, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_promtool_query_instant(promtool):
    at = f"--time={T0 + 60:.0f}"
    assert promtool("instant", "1+1", flags=[at]) == f"scalar: 2 @[{T0 + 60:.0f}]\n"
    printed = promtool("instant", 'last_over_time(temperature{node="b b"}[1m])', flags=[at])
    assert printed.startswith('temperature{field="temperature", node="b b", units="K"} => 77.0')
    assert promtool("instant", "odd", flags=[at]) == f'odd{{field="odd", node="b b"}} => +Inf @[{T0 + 60:.0f}]\n'
    assert promtool("instant", "sum by (units) (rx_bytes) * 0", flags=[at]) == f'{{units="B"}} => 0 @[{T0 + 60:.0f}]\n'


def test_promtool_query_range(promtool):
    flags = [f"--start={T0 + 300:.0f}", f"--end={T0 + 600:.0f}", "--step=1m", "--format=json"]
    (series,) = json.loads(promtool("range", 'count_over_time(rx_bytes{node=~"a.*"}[1m])', flags=flags))
    assert series["metric"] == {"node": "a", "field": "rx.bytes", "units": "B"}
    assert series["values"] == [[T0 + 300 + 60 * i, "4"] for i in range(6)]


def test_promtool_query_series(promtool):
    printed = promtool("series", flags=["--match=rx_bytes", '--match={field="odd"}'])
    assert len(printed.splitlines()) == 4
    assert '{__name__="rx_bytes", field="rx.bytes", node="a", units="B"}' in printed


def test_promtool_query_labels(promtool):
    assert promtool("labels", "node").split("\n") == ["a", "b b", ""]
    assert promtool("labels", "__name__").split() == ["odd", "rx_bytes", "sisock_field", "temperature", "total"]


def test_promtool_is_told_what_is_wrong(promtool):
    assert "the aggregation topk is not supported; supported are" in promtool("instant", "topk(1, odd)", fails=True)
    assert "is not PromQL" in promtool("instant", "sum(", fails=True)
    flags = [f"--start={T0:.0f}", f"--end={T0 + 7200:.0f}", "--step=100ms"]
    assert "at most 11,000" in promtool("range", "odd", flags=flags, fails=True)


@pytest.fixture(scope="module")
def judge(program, tmp_path_factory):
    """Start a real Prometheus with the same samples; provides its URL."""
    folder = tmp_path_factory.mktemp("prometheus")
    lines = []
    for name in sorted({name for node in site().values() for name in node.infos}):
        metric = re.sub(r"\W", "_", name)
        lines.append(f"# TYPE {metric} unknown")
        for node, each in site().items():
            if name in each.infos:
                units = f',units="{each.infos[name].units}"' if each.infos[name].units else ""
                for t, value in zip(*each.samples[name], strict=True):
                    text = {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, repr(float(value)))
                    lines.append(f'{metric}{{node="{node}",field="{name}"{units}}} {text} {t:.3f}')
    (folder / "samples").write_text("\n".join([*lines, "# EOF", ""]))
    blocks = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "samples", "data"]
    subprocess.run(blocks, cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "none.yml").write_text("")
    (port,) = free_ports(1)
    options = [f"--web.listen-address=127.0.0.1:{port}", "--config.file=none.yml", "--storage.tsdb.path=data"]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [program("prometheus"), *options, "--storage.tsdb.retention.time=100y"], cwd=folder, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}/-/ready"):
            assert running.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, "Prometheus is not ready"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def asked(url, path, parameters):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
        return json.load(answer)["data"]


SELECTORS = [
    "rx_bytes",
    "temperature",
    'rx_bytes{node=~"a|c"}',
    'temperature{node!="a",units=~".+"}',
    '{node!~"a.*",field=~".+"}',
]
# Prometheus 2 extrapolates to where a counter was 0 also from beyond half a distance of samples; `total` is far from 0.
COUNTERS, ONE_METRIC = ["rx_bytes", "total"], [*SELECTORS[:-1], "odd"]
FUNCTIONS = ["rate", "increase", "avg_over_time", "min_over_time", "max_over_time", "last_over_time", "count_over_time"]
QUERIES = [
    *SELECTORS,
    *(
        f"{function}({selector}[{span}])"
        for function in FUNCTIONS
        for selector in (COUNTERS if function in ("rate", "increase") else ONE_METRIC)
        for span in ("40s", "5m", "1h")
    ),
    "rx_bytes offset 10m",
    "increase(rx_bytes[7m] offset -3m)",
    *(
        f"{each} {by} (rate(rx_bytes[5m]))"
        for each in ("sum", "avg", "min", "max")
        for by in ("", "by (node)", "without (node)")
    ),
    "sum by (units, nothing) (temperature)",
    "sum by (__name__) (temperature)",
    "-rx_bytes",
    "2 - rx_bytes * 3 / 7",
    "rx_bytes % 7 ^ 2",
    "-7 % rx_bytes",
    "odd * 1e300 * 1e300",
    "1 / odd",
    "1 + 1",
    "2 ^ 0.5 ^ 3 - -1",
    "0 / 0",
]


@pytest.mark.parametrize("query", QUERIES)
def test_answers_are_those_of_prometheus(url, judge, query):
    grid = {"query": query, "start": T0 + 60, "end": T0 + 7500, "step": 37}
    ours, theirs = (by_labels(asked(each, "query_range", grid)) for each in (url, judge))
    assert list(ours) == list(theirs)
    for labels, points in theirs.items():
        assert [at for at, _ in ours[labels]] == [at for at, _ in points]
        np.testing.assert_allclose(numbers(ours[labels]), numbers(points), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("query", ["odd", "1 / 0", "odd * 1e-12", "rx_bytes / 3", "0/0", "-1/0", "odd ^ 3"])
def test_numbers_are_written_as_prometheus_writes_them(url, judge, query):
    for at in SECONDS[::100]:
        ours, theirs = (asked(each, "query", {"query": query, "time": at}) for each in (url, judge))
        assert ours["resultType"] == theirs["resultType"]
        assert in_order(ours["result"]) == in_order(theirs["result"])


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("query", {}),
        ("query", {"query": "sum("}),
        ("query", {"query": "rate(odd)"}),
        ("query", {"query": "nothing(odd)"}),
        ("query", {"query": '{node=~".*"}'}),
        ("query", {"query": 'odd{node=~"("}'}),
        ("query", {"query": "odd", "time": "yesterday"}),
        ("query", {"query": "nobody_has_this"}),
        ("query_range", {"query": "odd", "start": T0, "end": T0}),
        ("query_range", {"query": "odd", "end": T0, "step": 1}),
        ("query_range", {"query": "odd", "start": T0 + 1, "end": T0, "step": 1}),
        ("query_range", {"query": "odd", "start": T0, "end": T0 + 1, "step": 0}),
        ("query_range", {"query": "odd", "start": T0, "end": T0 + 1, "step": "-5s"}),
        ("query_range", {"query": "odd", "start": T0, "end": T0 + 1, "step": "1x"}),
        ("query_range", {"query": "odd", "start": T0, "end": T0 + 11_000, "step": 1}),
        ("query_range", {"query": "odd", "start": T0, "end": T0 + 11_001, "step": 1}),
        (
            "query_range",
            {"query": "odd", "start": "2023-11-14T22:13:20Z", "end": "2023-11-14T22:14:20.5Z", "step": "1m"},
        ),
        ("series", {}),
        ("series", {"match[]": "rate(odd[5m])"}),
        ("labels", {"match[]": "{"}),
        ("label/nothing/values", {}),
    ],
)
def test_status_is_that_of_prometheus(url, judge, path, parameters):
    said = []
    for each in (url, judge):
        try:
            asked(each, path, parameters)
            said.append((200, None))
        except urllib.error.HTTPError as error:
            said.append((error.code, json.load(error)["errorType"]))
            error.close()
    assert said[0] == said[1]


def by_labels(data):
    assert data["resultType"] == "matrix"
    return {
        frozenset(series["metric"].items()): series["values"]
        for series in data["result"]
        if series["metric"].get("__name__") != "sisock_field"
    }


def in_order(result):
    return sorted(json.dumps(each, sort_keys=True) for each in result)


def numbers(points):
    return [float(value) for _, value in points]
