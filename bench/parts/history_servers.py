"""Peers that are servers: started on free ports of the loopback interface, in a temporary folder, and stopped."""

import http.client
import io
import json
import subprocess
import time
from contextlib import contextmanager, suppress
from urllib.parse import urlencode

import numpy as np
from pyarrow import csv

from sisock.testing.fixtures import free_ports

BOOT_S = 20.0
# Lines of text in one request, as the makers of both advise.
LINES = 10_000
# A thousand bins of a month.
STEP_S = 2592

INFLUXDB = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[logging]
level = "error"
"""


class Server:
    """What both understand: lines of text over HTTP, ``measurement field=value,... time``."""

    def __init__(self, port, write, per_second):
        self._port, self._write, self._per_second = port, write, per_second
        self._web = http.client.HTTPConnection("127.0.0.1", port)

    def ask(self, method, path, body=None, headers=None):
        self._web.request(method, path, body, headers or {})
        answer = self._web.getresponse()
        content = answer.read()
        assert answer.status < 300, content[:300]
        return content

    def append(self, t, columns):
        stamps = np.round(t * self._per_second).astype(np.int64).tolist()
        fields = [[f"{name}={value}" for value in values.tolist()] for name, values in columns.items()]
        rows = zip(*fields, strict=True)
        lines = [f"wide {','.join(row)} {stamp}" for row, stamp in zip(rows, stamps, strict=True)]
        self.ask("POST", self._write, "\n".join(lines).encode())

    def fill(self, t, values):
        stamps = np.round(t * self._per_second).astype(np.int64).tolist()
        lines = [f"month x={value} {stamp}" for value, stamp in zip(values.tolist(), stamps, strict=True)]
        for i in range(0, len(lines), LINES):
            self.ask("POST", self._write, "\n".join(lines[i : i + LINES]).encode())
        self._span = stamps[0] / self._per_second, stamps[-1] / self._per_second

    def close(self):
        self._web.close()


class InfluxDB(Server):
    """InfluxDB 1.x; answers as CSV."""

    def __init__(self, port):
        super().__init__(port, "/write?db=bench&precision=ms", 1e3)
        self.ask("POST", "/query?" + urlencode({"q": "CREATE DATABASE bench"}))

    def _select(self, query):
        path = "/query?" + urlencode({"db": "bench", "epoch": "ms", "q": query})
        return csv.read_csv(io.BytesIO(self.ask("GET", path, headers={"Accept": "application/csv"})))

    def read(self):
        table = self._select("SELECT x FROM month")
        return table.column("time").to_numpy() / 1e3, table.column("x").to_numpy()

    def thin(self):
        low, high = self._span
        table = self._select(
            f"SELECT min(x), max(x) FROM month WHERE time >= {low * 1e3:.0f}ms AND time <= {high * 1e3:.0f}ms "
            f"GROUP BY time({STEP_S}s)"
        )
        return np.stack([table.column(name).to_numpy() for name in ("min", "max")], axis=1)


class VictoriaMetrics(Server):
    """VictoriaMetrics on its own; whole series as JSON, bins by MetricsQL."""

    def __init__(self, port):
        super().__init__(port, "/write?precision=ms", 1e3)

    def fill(self, t, values):
        super().fill(t, values)
        self.ask("GET", "/internal/force_flush")  # what was written is found after a second otherwise

    def read(self):
        path = "/api/v1/export?" + urlencode({"match[]": "month_x", "start": self._span[0], "end": self._span[1]})
        series = [json.loads(line) for line in self.ask("GET", path).splitlines()]
        t = np.concatenate([np.array(each["timestamps"]) for each in series]) / 1e3
        return t, np.concatenate([np.array(each["values"]) for each in series])

    def thin(self):
        return np.stack([self._rolled(f"{which}_over_time") for which in ("min", "max")], axis=1)

    def _rolled(self, function):
        first = self._span[0] + STEP_S - 1e-3  # a value tells of the step before it
        asked = {"query": f"{function}(month_x[{STEP_S}s])", "start": first, "end": self._span[1] + STEP_S}
        path = "/api/v1/query_range?" + urlencode({**asked, "step": f"{STEP_S}s", "nocache": 1})
        (series,) = json.loads(self.ask("GET", path))["data"]["result"]
        return np.array([float(value) for _, value in series["values"]])


@contextmanager
def running(command, folder, make, ready):
    """Run a server, and yield what talks to it."""
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + BOOT_S
            while not ready():
                said = (folder / "log").read_text()[-2000:]
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.05)
            peer = make()
            yield peer
            peer.close()
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
            process.kill()


def answers(port, path):
    def ready():
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        try:
            web.request("GET", path)
            return web.getresponse().status < 300
        except OSError:
            return False
        finally:
            web.close()

    return ready


def influxdb(folder):
    port, rpc = free_ports(2)
    settings = folder / "influxdb.conf"
    settings.write_text(INFLUXDB.format(folder=folder, port=port, rpc=rpc))
    command = ["influxd", "run", "-config", str(settings)]
    return running(command, folder, lambda: InfluxDB(port), answers(port, "/ping"))


def victoria_metrics(folder):
    (port,) = free_ports(1)
    flags = {"storageDataPath": folder / "data", "httpListenAddr": f"127.0.0.1:{port}", "retentionPeriod": "1y"}
    # By default points of the last half minute are hidden, and a series longer than so many is refused.
    flags |= {"search.latencyOffset": "0s", "loggerLevel": "ERROR"}
    command = ["victoria-metrics", *(f"-{name}={value}" for name, value in flags.items())]
    return running(command, folder, lambda: VictoriaMetrics(port), answers(port, "/health"))
